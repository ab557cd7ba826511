SELECT medical_specialty, COUNT(*) AS encounters,
       SUM(CASE WHEN readmitted = '<30' THEN 1 ELSE 0 END) AS readmitted_soon
FROM encounters
GROUP BY medical_specialty
