SELECT medical_specialty, COUNT(*) AS encounters, AVG(time_in_hospital) AS mean_stay
FROM encounters
GROUP BY medical_specialty
ORDER BY encounters DESC
