"""Hostile programs against scikit-learn and statsmodels: their caches, processes, pickles, callbacks and formulas."""

from tests.support.hostile import act, inside

SK = (
    "import numpy as np\nimport pandas as pd\nfrom sklearn.linear_model import LinearRegression, LogisticRegression, Ridge\n"
    "from sklearn.cluster import AgglomerativeClustering, DBSCAN, KMeans\nfrom sklearn.pipeline import Pipeline, make_pipeline\n"
    "from sklearn.ensemble import RandomForestRegressor, GradientBoostingRegressor\nfrom sklearn.neighbors import KNeighborsClassifier\n"
    "from sklearn.model_selection import cross_val_score, train_test_split\nfrom sklearn.preprocessing import OneHotEncoder, StandardScaler\n"
    "from sklearn import metrics\nX = np.arange(20.0).reshape(10, 2) % 7\ny = X[:, 0] * 2\n"
)
SM = "import numpy as np\nimport pandas as pd\nimport statsmodels.api as sm\nX = np.column_stack([np.ones(9), np.arange(9.0)])\ny = np.arange(9.0) % 4\n"


def sk(text):
    """Do something forbidden with scikit-learn, then hand over `loot`."""
    return act(text, SK)


def inner(text, head=SK):
    """Reach something of the interpreter through a model."""
    return inside(text, head)


def raw(imports, text):
    """Import modules that programs never get."""
    return act(text, SK + f"import {imports}\n")


def looked(imports, text):
    """The same, for what the warm-up has made harmless: it is then done in order, in this very process."""
    return inside(text, SK + f"import {imports}\n")


_EVIL = "class Evil:\n    def fit(self, *a, **k):\n        return self\n    def fit_transform(self, X, y=None, **k):\n        return X\n"
_PICKLE = "b'cos\\nmkdir\\n(V' + p['folder'].encode() + b'/pwned\\ntR.'"

ATTACKS = {
    "scikit-learn and statsmodels": {
        "joblib_memory": raw("joblib", "joblib.Memory(p['folder'], verbose=0).cache(len)('x')"),
        "joblib_dump": raw("joblib", "joblib.dump([1], p['folder'] + '/j')"),
        "joblib_load": raw("joblib", "import io\nloot = joblib.load(io.BytesIO(" + _PICKLE + "))"),
        "joblib_processes": looked("joblib", "loot = joblib.Parallel(n_jobs=2, backend='loky')(joblib.delayed(len)('x') for _ in range(2))"),
        "joblib_threads": looked("joblib", "loot = joblib.Parallel(n_jobs=2, backend='threading')(joblib.delayed(len)('x') for _ in range(2))"),
        "joblib_loky_executor": raw("joblib.externals.loky as loky", "loot = loky.get_reusable_executor(max_workers=1).submit(len, 'x').result(1)"),
        "cloudpickle_loads": raw("cloudpickle", "cloudpickle.loads(" + _PICKLE + ")"),
        "sklearn_pipeline_memory": sk("make_pipeline(StandardScaler(), Ridge(), memory=p['folder'] + '/m').fit(X, y)"),
        "sklearn_pipeline_memory_set": sk("m = make_pipeline(StandardScaler(), Ridge())\ngetattr(m, 'set' + '_params')(memory=p['folder'] + '/m2')\nm.fit(X, y)"),
        "sklearn_tree_memory": sk("AgglomerativeClustering(2, memory=p['folder'] + '/t').fit(X)"),
        "sklearn_forest_jobs": inner("loot = RandomForestRegressor(n_estimators=4, n_jobs=2).fit(X, y)"),
        "sklearn_scores_jobs": inner("loot = cross_val_score(Ridge(), X, y, cv=2, n_jobs=2)"),
        "sklearn_datasets_fetch": raw("sklearn.datasets as d", "loot = d.fetch_california_housing(data_home=p['folder'] + '/d')"),
        "sklearn_datasets_files": raw("sklearn.datasets as d", "loot = d.load_files(p['folder'], encoding='utf-8')"),
        "sklearn_datasets_svmlight": raw("sklearn.datasets as d", "d.dump_svmlight_file(X, y, p['folder'] + '/s')"),
        "sklearn_datasets_data_home": raw("sklearn.datasets as d", "d.get_data_home(p['folder'] + '/home')"),
        "sklearn_check_estimator": raw("sklearn.utils.estimator_checks as c", "loot = c.check_estimator(Ridge())"),
        "sklearn_text_files": raw("sklearn.feature_extraction.text as f", "loot = f.CountVectorizer(input='filename').fit([p['secret']]).vocabulary_"),
        "sklearn_module_os": sk("metrics.os.mkdir(p['folder'] + '/os')"),
        "sklearn_joblib_through_module": sk("LinearRegression.fit.__globals__['os'].mkdir(p['folder'] + '/g')"),
        "sklearn_show_versions": raw("sklearn", "loot = sklearn.utils.os.listdir('/')"),
        "sklearn_class_walk": inner("loot = Ridge().__class__.__mro__"),
        "sklearn_class_computed": inner("loot = getattr(Ridge(), chr(95) * 2 + 'class' + chr(95) * 2)"),
        "sklearn_get_params": inner("loot = getattr(Ridge(), 'get' + '_params')()"),
        "sklearn_state": inner("loot = getattr(Ridge().fit(X, y), chr(95) * 2 + 'getstate' + chr(95) * 2)()"),
        "sklearn_set_state": inner("m = Ridge()\ngetattr(m, chr(95) * 2 + 'setstate' + chr(95) * 2)({'fit': 1})\nloot = m"),
        "sklearn_clone_own": inner(_EVIL + "loot = make_pipeline(Evil(), Ridge()).fit(X, y)"),
        "sklearn_score_own": inner(_EVIL + "loot = cross_val_score(Evil(), X, y, scoring=lambda m, a, b: 1.0, cv=2)"),
        "sklearn_callable_metric": inner("seen = []\nKNeighborsClassifier(metric=lambda a, b: seen.append(1) or 0.0).fit(X, [0, 1] * 5).predict(X)\nloot = seen[0]"),
        "sklearn_callable_metric_nested": inner("seen = []\nDBSCAN(metric='pyfunc', metric_params={'func': lambda a, b: seen.append(1) or 0.0}).fit(X)\nloot = seen[0]"),
        "sklearn_callable_init": inner("seen = []\ndef init(*a, **k):\n    seen.append(k)\n    return X[:2]\nKMeans(2, init=init, n_init=1).fit(X)\nloot = seen[0]"),
        "sklearn_callable_monitor": inner("seen = []\ndef look(i, m, names):\n    seen.append(names)\n    return True\nGradientBoostingRegressor(n_estimators=2).fit(X, y, monitor=look)\nloot = seen[0]['self']"),
        "sklearn_callable_categories": inner("m = OneHotEncoder(feature_name_combiner=lambda a, b: str(a)).fit([['a']])\nloot = m.get_feature_names_out()[0]"),
        "sklearn_steps": inner("loot = getattr(make_pipeline(Ridge()), 'st' + 'eps')[0]"),
        "sklearn_named_steps": inner("loot = getattr(make_pipeline(Ridge()), 'named' + '_steps')"),
        "sklearn_trees_inside": inner("loot = getattr(RandomForestRegressor(n_estimators=2).fit(X, y), 'estimators' + '_')[0]"),
        "sklearn_html": inner("loot = getattr(Ridge(), '_repr_html' + '_')()"),
        "sklearn_base_class": inner("class Mine(Ridge):\n    pass\nloot = Mine()"),
        "sklearn_set_attribute": inner("m = Ridge().fit(X, y)\nm.coef_ = lambda: 1\nloot = m"),
        "sklearn_verbose_writes": sk("KMeans(2, verbose=1, n_init=1).fit(X)\nprint(open(p['secret']).read())\nloot = open(p['secret']).read()"),
        "statsmodels_formula": act("import statsmodels.formula.api as smf\nd = pd.DataFrame({'x': X[:, 1], 'y': y})\nf = p['folder'] + '/formula'\nsmf.ols('y ~ __import__(\"os\").mkdir(f)', d)", SM),
        "statsmodels_from_formula": act("d = pd.DataFrame({'x': X[:, 1], 'y': y})\nsm.OLS.from_formula('y ~ I(__import__(\"os\").mkdir(%r))' % (p['folder'] + '/ff'), d)", SM),
        "statsmodels_patsy": act("import patsy\nloot = patsy.dmatrix('I(open(%r).read())' % p['secret'], {'x': [1]})", SM),
        "statsmodels_save": act("sm.OLS(y, X).fit().save(p['folder'] + '/r.pickle')", SM),
        "statsmodels_save_computed": act("getattr(sm.OLS(y, X).fit(), 'sa' + 've')(p['folder'] + '/r2.pickle')", SM),
        "statsmodels_load": act("import io\nsm.load(io.BytesIO(" + _PICKLE + "))", SM),
        "statsmodels_load_results": act("loot = sm.load_pickle(p['secret'])", SM),
        "statsmodels_datasets": act("loot = sm.datasets.get_rdataset('iris', cache=p['folder'] + '/cache').data", SM),
        "statsmodels_webdoc": act("loot = sm.webdoc('glm')", SM),
        "statsmodels_summary_html": inner("loot = getattr(sm.OLS(y, X).fit().summary(), 'as' + '_html')()", SM),
        "statsmodels_summary_tables": inner("loot = sm.OLS(y, X).fit().summary().tables[0]", SM),
        "statsmodels_model_of_results": inner("loot = getattr(sm.OLS(y, X).fit(), 'mo' + 'del')", SM),
        "statsmodels_constraint_text": inner("loot = getattr(sm.OLS(y, X).fit(), 't' + '_test')('x1 = 0')", SM),
        "statsmodels_callback": inner("seen = []\nsm.Logit(y > 1, X).fit(disp=0, callback=lambda v: seen.append(v))\nloot = seen[0]", SM),
        "statsmodels_own_family": inner("class F:\n    safe_links = []\nloot = sm.GLM(y, X, family=F()).fit()", SM),
        "statsmodels_stored_keyword": inner("loot = sm.OLS(y, X, anything=data).anything", SM),
        "statsmodels_graphics": act("sm.graphics.plot_fit(sm.OLS(y, X).fit(), 0).savefig(p['folder'] + '/g.png')", SM),
        "statsmodels_test_runner": act("loot = sm.test()", SM),
    },
}  # fmt: skip
