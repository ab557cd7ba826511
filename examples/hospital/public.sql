SELECT age, COUNT(*) AS encounters, AVG(num_medications) AS mean_medications
FROM encounters
WHERE admission_type_id = '1'
GROUP BY age
ORDER BY age
