"""How long does a patient's typical stay grow from the first admission to the last?  SQL cannot say; a function can.

`block` sees the rows of some patients, whole patients only, in a process of its own without a way out.  Only the mean
over all blocks leaves, with noise; so it does not matter what the function does with one patient.
"""

BLOCK = """
def block(rows, parameters):
    stays = rows.groupby("unit")["time_in_hospital"]
    several = stays.count() >= parameters["admissions"]
    medians = stays.median()
    # A trimmed mean of the patients' own medians: a few very long stays move it little.
    low, high = medians.quantile(0.1), medians.quantile(0.9)
    typical = medians[(medians >= low) & (medians <= high)].mean()
    repeated = medians[several].mean() if several.any() else typical
    slope = rows["time_in_hospital"].corr(rows["num_medications"])
    return {"typical_stay": typical, "stay_of_the_often_admitted": repeated, "stay_and_medications": slope}
"""


def analyze(data):
    """Return three numbers and the share of failed blocks, with their standard errors."""
    answer = data.blocks(
        "encounters",
        BLOCK,
        k=200,
        output={"typical_stay": (1, 14), "stay_of_the_often_admitted": (1, 14), "stay_and_medications": (-1, 1)},
        columns=["time_in_hospital", "num_medications"],
        parameters={"admissions": 3},
        milliseconds=500,
        mode="fast",
        failures=True,
        share="1",
    )
    names = list(answer.table.columns)
    return {
        "stays": {
            "statistic": names,
            "value": [answer.table[name][0] for name in names],
            "standard_error": [answer.standard_errors[name][0] for name in names],
        }
    }
