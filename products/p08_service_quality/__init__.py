"""P08 医疗服务质量监管服务: which specialties stand out, with limits that know about the noise."""
