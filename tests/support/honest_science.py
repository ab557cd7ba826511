# ruff: noqa: Q000 - the programs hold quotes of both kinds
"""Honest programs that fit models of scikit-learn and statsmodels to released tables."""

from tests.support.honest import ASK, HEAD

_CLEAN = '    t = t.dropna().reset_index(drop=True)\n    t["m"] = t["month"].str[-2:].astype(int)\n'


def fit(imports: str, *lines: str) -> str:
    return HEAD + imports + "\ndef analyze(data):\n" + ASK + _CLEAN + "".join(f"    {line}\n" for line in lines)


PROGRAMS = {
    "trend_by_regression": fit(
        "from sklearn.linear_model import LinearRegression",
        'model = LinearRegression().fit(t[["m"]], t["visits"])',
        'return {"slope": model.coef_[0], "start": model.intercept_, "r2": model.score(t[["m"]], t["visits"])}',
    ),
    "ridge_pipeline": fit(
        "from sklearn.pipeline import make_pipeline\nfrom sklearn.preprocessing import PolynomialFeatures, StandardScaler\n"
        "from sklearn.linear_model import Ridge, Lasso, ElasticNet",
        'X = pd.get_dummies(t[["district", "m"]], columns=["district"], dtype=float)',
        'out = {}',
        'for kind in (Ridge(alpha=0.5), Lasso(alpha=0.1), ElasticNet(alpha=0.1)):',
        '    pipe = make_pipeline(StandardScaler(), PolynomialFeatures(2, include_bias=False), kind)',
        '    name = f"{kind}".split("(")[0]',
        '    out[name] = round(pipe.fit(X, t["visits"]).score(X, t["visits"]), 6)',
        'return {"scores": {"model": list(out), "r2": list(out.values())}}',
    ),
    "clusters_of_districts": fit(
        "from sklearn.cluster import AgglomerativeClustering, DBSCAN, KMeans\nfrom sklearn.preprocessing import MinMaxScaler\n"
        "from sklearn.metrics import silhouette_score",
        'wide = t.pivot_table(index="district", columns="m", values="visits").fillna(0)',
        'X = MinMaxScaler().fit_transform(wide)',
        'km = KMeans(n_clusters=2, n_init=3, random_state=4).fit(X)',
        'groups = pd.Series(km.labels_, index=wide.index, name="group")',
        'tree = AgglomerativeClustering(n_clusters=2).fit_predict(X)',
        'noise = DBSCAN(eps=0.2, min_samples=1).fit(X).labels_',
        'return {"g": groups, "same": int((tree == tree[0]).sum()), "alone": len(set(noise.tolist())), "s": round(silhouette_score(X, km.labels_), 6)}',
    ),
    "chance_follows_from_the_job": fit(
        "from sklearn.cluster import KMeans\nfrom sklearn.ensemble import RandomForestRegressor\nfrom sklearn.model_selection import train_test_split",
        'train, test = train_test_split(t, test_size=0.25)',
        'forest = RandomForestRegressor(n_estimators=15, max_depth=4).fit(train[["m", "cost"]], train["visits"])',
        'centres = KMeans(3).fit(t[["visits"]]).cluster_centers_.ravel()',
        'return {"rows": test[["district", "month"]], "said": {"v": forest.predict(test[["m", "cost"]]).tolist()},'
        ' "weight": {"w": forest.feature_importances_.tolist()}, "c": {"c": sorted(centres.tolist())}}',
    ),
    "a_classifier_with_its_report": fit(
        "from sklearn import metrics\nfrom sklearn.linear_model import LogisticRegression\nfrom sklearn.model_selection import cross_val_score, StratifiedKFold",
        't["busy"] = (t["visits"] > t["visits"].median()).astype(int)',
        'X, y = t[["m", "cost"]], t["busy"]',
        'scores = cross_val_score(LogisticRegression(max_iter=500), X, y, cv=StratifiedKFold(3), scoring="roc_auc")',
        'model = LogisticRegression(max_iter=500).fit(X, y)',
        'chance = model.predict_proba(X)[:, 1]',
        'fpr, tpr, cut = metrics.roc_curve(y, chance)',
        'matrix = metrics.confusion_matrix(y, model.predict(X))',
        'return {"auc": metrics.roc_auc_score(y, chance), "cv": {"s": scores.round(8).tolist()}, "curve": {"f": fpr, "t": tpr},'
        ' "m": pd.DataFrame(matrix, columns=["no", "yes"]), "report": {"text": [metrics.classification_report(y, model.predict(X))]}}',
    ),
    "trees_and_boosting": fit(
        "from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor\nfrom sklearn.ensemble import GradientBoostingRegressor, RandomForestClassifier",
        'label = (t["visits"] > 250).map({True: "high", False: "low"})',
        'tree = DecisionTreeClassifier(max_depth=2, random_state=0).fit(t[["m"]], label)',
        'boost = GradientBoostingRegressor(n_estimators=10, random_state=0).fit(t[["m", "cost"]], t["visits"])',
        'wood = RandomForestClassifier(n_estimators=5, random_state=1, oob_score=False).fit(t[["m"]], label)',
        'step = DecisionTreeRegressor(max_leaf_nodes=3, random_state=0).fit(t[["m"]], t["visits"])',
        'return {"depth": tree.get_depth(), "leaves": step.get_n_leaves(), "classes": {"c": tree.classes_.tolist()},'
        ' "fit": boost.score(t[["m", "cost"]], t["visits"]), "says": {"w": wood.predict(t[["m"]].head(4)).tolist()}}',
    ),
    "main_components": fit(
        "from sklearn.decomposition import PCA\nfrom sklearn.preprocessing import StandardScaler",
        'wide = t.pivot_table(index="month", columns="district", values="visits").dropna()',
        'pca = PCA(n_components=2).fit(StandardScaler().fit_transform(wide))',
        'names = [f"pc{i + 1}" for i in range(2)]',
        'loads = pd.DataFrame(pca.components_.round(8), columns=wide.columns, index=names).abs()',
        'return {"share": {"r": pca.explained_variance_ratio_.round(8).tolist()}, "loads": loads}',
    ),
    "encoders": fit(
        "from sklearn.preprocessing import LabelEncoder, OneHotEncoder",
        'one = OneHotEncoder(sparse_output=False, handle_unknown="ignore").fit(t[["district"]])',
        'number = LabelEncoder().fit(t["district"])',
        'matrix = pd.DataFrame(one.transform(t[["district"]]), columns=one.get_feature_names_out())',
        'back = number.inverse_transform(number.transform(t["district"].head(3)))',
        'return {"sum": matrix.sum(), "back": {"d": back.tolist()}, "cats": {"c": one.categories_[0].tolist()}}',
    ),
    "neighbours_and_isotonic": fit(
        "from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor\nfrom sklearn.isotonic import IsotonicRegression",
        'near = KNeighborsRegressor(n_neighbors=3, weights="distance").fit(t[["m"]], t["visits"])',
        'kind = KNeighborsClassifier(5).fit(t[["visits", "cost"]], t["district"])',
        'rise = IsotonicRegression(out_of_bounds="clip").fit(t["m"], t["visits"])',
        'return {"n": {"v": near.predict(pd.DataFrame({"m": [1, 6, 12]})).tolist()}, "k": kind.score(t[["visits", "cost"]], t["district"]),'
        ' "r": {"v": rise.predict([1, 5, 20]).tolist()}}',
    ),
    "least_squares_with_its_table": fit(
        "import statsmodels.api as sm",
        'X = sm.add_constant(pd.get_dummies(t["district"], drop_first=True, dtype=float).assign(m=t["m"]))',
        'result = sm.OLS(t["visits"], X).fit(cov_type="HC1")',
        'table = pd.DataFrame({"b": result.params, "se": result.bse, "p": result.pvalues}).join(result.conf_int().set_axis(["low", "high"], axis=1))',
        'text = "\\n".join(line for line in f"{result.summary()}".splitlines() if not line.startswith(("Date", "Time")))',
        'return {"table": table, "r2": result.rsquared, "adj": result.rsquared_adj, "aic": result.aic, "text": {"t": [text]}}',
    ),
    "weighted_by_the_errors": fit(
        "import statsmodels.api as sm",
        'a = data.ask("SELECT district, month, COUNT(*) AS visits, AVG(cost) AS cost FROM trips GROUP BY 1, 2")',
        'w = 1 / a.standard_errors["visits"].fillna(1.0) ** 2',
        'y, x = a.table["visits"], sm.add_constant(a.table["month"].str[-2:].astype(float))',
        'wls = sm.WLS(y, x, weights=w).fit()',
        'ahead = wls.get_prediction(sm.add_constant(np.array([13.0, 14.0]), has_constant="add")).summary_frame(alpha=0.1)',
        'return {"p": wls.params, "ahead": ahead.round(8)}',
    ),
    "counts_and_odds": fit(
        "import statsmodels.api as sm",
        'X = sm.add_constant(data=t[["m", "cost"]], prepend=True)',
        'counts = sm.GLM(t["visits"], X, family=sm.families.Poisson()).fit()',
        'odds = sm.Logit((t["visits"] > 250).astype(int), X).fit(disp=0, maxiter=60)',
        'return {"rate": np.exp(counts.params), "dev": counts.deviance, "odds": odds.params.round(6), "pseudo": round(odds.prsquared, 8), "fit": odds.predict(X).head(3).round(8)}',
    ),
    "a_season_ahead": fit(
        "from statsmodels.tsa.holtwinters import ExponentialSmoothing",
        's = t.groupby("month")["visits"].sum()',
        's.index = pd.PeriodIndex(s.index, freq="M").to_timestamp()',
        'model = ExponentialSmoothing(s.asfreq("MS"), trend="add", initialization_method="estimated").fit()',
        'return {"next": model.forecast(3).round(4), "sse": round(model.sse, 4)}',
    ),
}  # fmt: skip
