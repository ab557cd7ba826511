"""Who comes back within 30 days?  By age band, then, in the largest band, by the result of the HbA1c test.

The program never sees a row.  `data.ask` gives answers that already carry their noise, with a standard error for each
number; what is computed from them may leave as it is.
"""

import pandas as pd


def rates(answer, key, within):
    """Return, for each value of `key`, all encounters, the share readmitted in time, and its standard error."""
    keys = answer.table[[key, "readmitted"]]
    cells = keys.assign(
        count=answer.table["encounters"].astype(float),
        variance=answer.standard_errors["encounters"].astype(float) ** 2,
    )
    soon = cells[cells["readmitted"] == within].set_index(key)
    whole = cells.groupby(key, sort=True)[["count", "variance"]].sum()
    # A noisy count may be below one; a rate over it would mean nothing.
    total = whole["count"].clip(lower=1.0)
    rate = (soon["count"].reindex(whole.index) / total).clip(lower=0.0, upper=1.0)
    # The readmitted are part of the whole, so the two noises go together: var = (v_soon (1 - 2 rate) + v_all rate^2) / n^2.
    spread = soon["variance"].reindex(whole.index) * (1.0 - 2.0 * rate) + whole["variance"] * rate**2
    return pd.DataFrame(
        {"encounters": total, "rate": rate, "standard_error": spread.clip(lower=0.0) ** 0.5 / total}
    )


def analyze(data):
    """Return a table by age band and the data of a figure by HbA1c result in the largest band."""
    within = data.parameters["within"]
    first = data.ask(
        "SELECT age, readmitted, COUNT(*) AS encounters FROM encounters GROUP BY age, readmitted",
        share="1/2",
    )
    by_age = rates(first, "age", within)

    band = by_age["encounters"].idxmax()
    second = data.ask(
        "SELECT a1c_result, readmitted, COUNT(*) AS encounters FROM encounters "
        f"WHERE age = '{band}' GROUP BY a1c_result, readmitted",
        share="1/2",
    )
    by_result = rates(second, "a1c_result", within)

    half = 1.96 * by_result["standard_error"]
    figure = pd.DataFrame(
        {
            "age": band,
            "a1c_result": by_result.index,
            "rate": by_result["rate"].to_numpy(),
            "lower": (by_result["rate"] - half).clip(lower=0.0).to_numpy(),
            "upper": (by_result["rate"] + half).clip(upper=1.0).to_numpy(),
        }
    )
    table = by_age.assign(encounters=by_age["encounters"].round().astype("int64")).reset_index()
    return {"readmission_by_age": table, "readmission_by_a1c": figure}
