# ruff: noqa: Q000, Q001 - the programs hold quotes of both kinds
"""Honest programs of one table: group, pivot, merge, mask, resample."""

from tests.support.honest import HEAD, body

PROGRAMS = {
    "group_and_sum": body('return {"by": t.groupby("district")["visits"].sum().reset_index()}'),
    "named_aggregation": body(
        'g = t.groupby("district").agg(total=("visits", "sum"), dear=("cost", "max"), months=("month", "nunique"))',
        'return {"g": g.reset_index()}',
    ),
    "aggregation_with_a_list": body(
        'g = t.groupby("district")["visits"].agg(["min", "mean", "max", "std"])', 'return {"g": g.round(3)}'
    ),
    "aggregation_with_functions": body(
        'g = t.groupby("district")["visits"].agg([np.mean, lambda s: s.max() - s.min()])',
        'g.columns = ["mean", "range"]',
        'return {"g": g}',
    ),
    "new_columns": body(
        't["rate"] = t["cost"] / t["visits"]',
        't["rank"] = t["rate"].rank(ascending=False)',
        't["share"] = t["visits"] / t.groupby("month")["visits"].transform("sum")',
        'return {"t": t.sort_values(["month", "district"]).head(10)}',
    ),
    "augmented_items": body(
        't["visits"] += 1', 't["cost"] *= 2.0', "counts = {}",
        'for d in t["district"]:', "    counts[d] = counts.get(d, 0)", "    counts[d] += 1",
        "x = np.zeros(3)", "x[0] += 5", "x[1:] -= 2",
        'return {"t": t.tail(3), "n": sum(counts.values()), "x": {"x": x.tolist()}}',
    ),
    "masks": body(
        'm = (t["visits"] > 200) & ~t["district"].isin(["Gulou"]) | t["cost"].isna()',
        'return {"t": t[m], "n": int(m.sum())}',
    ),
    "loc_and_iloc": body(
        't.loc[t["cost"].isna(), "cost"] = 0.0', 't.iloc[0, 2] = 999', "t.at[1, 'visits'] = 5",
        'return {"t": t.loc[:5, ["district", "visits", "cost"]], "v": t.iat[0, 2]}',
    ),
    "pivot_table": body(
        'p = t.pivot_table(index="district", columns="month", values="visits", aggfunc="sum", margins=True)',
        'return {"p": p}',
    ),
    "melt_and_merge": body(
        'wide = t.pivot(index="district", columns="month", values="visits").reset_index()',
        'long = wide.melt(id_vars="district", var_name="month", value_name="v")',
        'both = t.merge(long, on=["district", "month"], how="inner", validate="one_to_one")',
        'return {"same": int((both["visits"] == both["v"]).sum())}',
    ),
    "dates_and_resampling": body(
        't["when"] = pd.to_datetime(t["month"] + "-01")',
        's = t.groupby("when")["visits"].sum().resample("QS").mean()',
        't["quarter"] = t["when"].dt.quarter', 't["label"] = t["when"].dt.strftime("%b %Y")',
        'return {"s": s, "q": t.groupby("quarter")["visits"].sum(), "l": t[["label"]].drop_duplicates()}',
    ),
    "rolling_windows": body(
        's = t[t["district"] == data.parameters["district"]].set_index("month")["visits"]',
        'r = pd.DataFrame({"m": s.rolling(3).mean(), "e": s.ewm(span=3).mean(), "c": s.expanding().sum()})',
        'return {"r": r}',
    ),
    "missing_values": body(
        'a = t["cost"].fillna(t["cost"].mean())', 'b = t["cost"].interpolate().bfill()',
        'return {"a": a, "b": b, "n": t.isna().sum()}',
    ),
    "text_columns": body(
        't["short"] = t["district"].str.slice(0, 3).str.upper() + "-" + t["month"].str.split("-").str[1]',
        't["has"] = t["district"].str.contains("u|w", regex=True)',
        'return {"t": t[["short", "has"]].drop_duplicates()}',
    ),
    "text_building": body(
        'lines = [f"{d:<10}|{v:>8.1f}|{v / 7:+.2e}" for d, v in t.groupby("district")["visits"].mean().items()]',
        'return {"lines": {"line": lines}, "joined": {"j": [", ".join(lines).title().replace("|", "/")]}}',
    ),
    "cut_and_quantiles": body(
        't["band"] = pd.cut(t["visits"], bins=[0, 150, 300, 1000], labels=["low", "mid", "high"])',
        't["q"] = pd.qcut(t["visits"], 4, labels=False)',
        'return {"b": t.groupby("band", observed=True)["visits"].count(), "q": t["q"].value_counts().sort_index()}',
    ),
    "crosstab": body(
        't["big"] = np.where(t["visits"] > 250, "big", "small")',
        'return {"c": pd.crosstab(t["district"], t["big"]), "n": pd.crosstab(t["district"], t["big"], normalize="index")}',
    ),
    "correlation_and_describe": body('return {"c": t[["visits", "cost"]].corr(), "d": t.describe()}'),
    "linear_regression": body(
        'ok = t.dropna()', 'X = np.column_stack([np.ones(len(ok)), ok["visits"].to_numpy(dtype="float64")])',
        'b, *_ = np.linalg.lstsq(X, ok["cost"].to_numpy(), rcond=None)',
        'r2 = 1 - ((ok["cost"] - X @ b) ** 2).sum() / ((ok["cost"] - ok["cost"].mean()) ** 2).sum()',
        'return {"b0": round(float(b[0]), 9), "b1": round(float(b[1]), 9), "r2": round(float(r2), 9)}',
    ),
    "standard_errors_and_intervals": HEAD + '''
def analyze(data):
    a = data.ask("SELECT ...", share="1/2", rows=3)
    low, high = a.lower["visits"], a.upper["visits"]
    width = (high - low).mean()
    relative = (a.standard_errors["visits"] / a.table["visits"]).max()
    return {"width": width, "relative": relative, "loss": {"k": list(a.loss.keys()), "v": list(a.loss.values())},
            "notes": {"n": a.notes}}
''',
    "numpy_arrays": HEAD + '''
def analyze(data):
    a = np.arange(12, dtype=np.float64).reshape(3, 4)
    a[1, :] = -1
    a[a < 0] = 0.5
    m = np.linalg.inv(a[:, :3].T @ a[:, :3] + np.eye(3))
    h, edges = np.histogram(a, bins=4)
    return {"m": pd.DataFrame(m.round(6), columns=list("xyz")), "h": {"h": h.tolist()}, "e": {"e": edges.tolist()},
            "s": a.sum(axis=0).max(), "i": int(np.argmax(a)), "w": {"w": np.where(a > 5, 1, 0).ravel().tolist()},
            "p": {"p": np.percentile(a, [10, 50, 90]).tolist()}, "k": {"k": np.unique(a.astype(int)).tolist()}}
''',
    "apply_rows": body(
        "def label(row):", '    return f"{row.district}/{row[\'month\']}" if row.visits > 150 else "small"',
        't["label"] = t.apply(label, axis=1)', 't["double"] = t["visits"].apply(lambda v: v * 2).map({214: "x"})',
        'return {"t": t.head(8), "m": t["visits"].map(str).str.len().sum()}',
    ),
    "itertuples_and_iterrows": body(
        "total = 0", "for row in t.itertuples(index=False):", "    total += row.visits",
        "names = [row['district'] for _, row in t.iterrows()]",
        'return {"t": total, "n": len(set(names))}',
    ),
    "attribute_columns": body('return {"a": t.visits.mean(), "b": t[t.district == "Gulou"].visits.max()}'),
    "index_work": body(
        's = t.set_index(["district", "month"])["visits"]', 'u = s.unstack("month")', 'u.columns.name = None',
        'u.index = u.index.str.lower()', 'return {"u": u.iloc[:, :3], "x": s.xs("Gulou").max(), "l": u.stack().loc["gulou"].sum()}',
    ),
    "concat_and_duplicates": body(
        'both = pd.concat([t, t], ignore_index=True)', 'both = both.drop_duplicates().drop(columns=["cost"])',
        'both = both.rename(columns={"visits": "n"}).assign(k=lambda f: f["n"] * 2)',
        'return {"b": both.nlargest(3, "n"), "shape": {"s": list(both.shape)}}',
    ),
    "categories": body(
        't["c"] = t["district"].astype("category").cat.reorder_categories(["Xuanwu", "Qinhuai", "Jianye", "Gulou"])',
        'return {"s": t.sort_values("c")[["c", "visits"]].head(3), "codes": t["c"].cat.codes.sum()}',
    ),
    "dummies_and_matrix": body(
        'd = pd.get_dummies(t["district"], dtype=int)', "d['all'] = d.sum(axis=1)", 'return {"d": d.head(4)}'
    ),
    "time_zones": HEAD + '''
def analyze(data):
    s = pd.Series(pd.date_range("2026-03-28 20:00", periods=4, freq="6h")).dt.tz_localize("UTC")
    return {"s": s.dt.tz_convert("Asia/Shanghai").dt.strftime("%Y-%m-%d %H:%M %z"), "h": s.dt.tz_convert("Europe/Berlin").dt.hour}
''',
    "groupby_apply_and_filter": body(
        'top = t.groupby("district")[["month", "visits"]].apply(lambda g: g.nlargest(1, "visits"))',
        'busy = t.groupby("district").filter(lambda g: g["visits"].sum() > 2000)',
        'for name, group in t.groupby("district"):', "    last = (name, len(group))",
        'return {"top": top.reset_index(level=0), "busy": busy["district"].unique().size, "l": {"l": list(map(str, last))}}',
    ),
    "growth_and_shift": body(
        's = t.pivot(index="month", columns="district", values="visits")', 'g = s.pct_change().mul(100).round(2)',
        'return {"g": g, "d": s.diff().shift(-1).clip(lower=0).cumsum(), "best": {"b": s.idxmax().tolist()}}',
    ),
}  # fmt: skip
