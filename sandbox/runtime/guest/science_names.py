"""What programs may use of scikit-learn and statsmodels, as data; whatever is not listed does not exist for a program.

The lists are the same whether or not the libraries are installed, so a program reads the same everywhere.  Left out on
purpose: everything that reads or writes files or downloads (`datasets`, `load`, `save`, `memory`), starts threads or
processes (`n_jobs`), evaluates text (formulas), takes functions (`make_scorer`, `FunctionTransformer`), or walks the
parts of a model (`get_params`, `set_params`, `steps`, `model`).
"""

from __future__ import annotations

from typing import Final

from sandbox.runtime.guest.attributes import words

DISTRIBUTIONS: Final = {"sklearn": "scikit-learn", "statsmodels": "statsmodels"}

CLASSES: Final = {
    "sklearn.linear_model": words("ElasticNet Lasso LinearRegression LogisticRegression Ridge"),
    "sklearn.cluster": words("AgglomerativeClustering DBSCAN KMeans"),
    "sklearn.decomposition": words("PCA"),
    "sklearn.preprocessing": words("LabelEncoder MinMaxScaler OneHotEncoder PolynomialFeatures StandardScaler"),
    "sklearn.tree": words("DecisionTreeClassifier DecisionTreeRegressor"),
    "sklearn.ensemble": words(
        "GradientBoostingClassifier GradientBoostingRegressor RandomForestClassifier RandomForestRegressor"
    ),
    "sklearn.neighbors": words("KNeighborsClassifier KNeighborsRegressor"),
    "sklearn.isotonic": words("IsotonicRegression"),
    "sklearn.pipeline": words("Pipeline"),
    "sklearn.model_selection": words("KFold StratifiedKFold"),
}
FUNCTIONS: Final = {
    "sklearn.pipeline": words("make_pipeline"),
    "sklearn.model_selection": words("cross_val_predict cross_val_score train_test_split"),
    "sklearn.metrics": words("""
        accuracy_score adjusted_rand_score auc average_precision_score balanced_accuracy_score brier_score_loss
        classification_report confusion_matrix davies_bouldin_score calinski_harabasz_score explained_variance_score
        f1_score fbeta_score homogeneity_score log_loss matthews_corrcoef max_error mean_absolute_error
        mean_absolute_percentage_error mean_squared_error median_absolute_error normalized_mutual_info_score
        precision_recall_curve precision_score r2_score recall_score roc_auc_score roc_curve root_mean_squared_error
        silhouette_score
    """),
    "statsmodels.api": words("add_constant"),
    "statsmodels.tools": words("add_constant"),
}
# A model of statsmodels keeps every keyword that it does not know, so the known ones are listed.
MODELS: Final = {
    "OLS": words("endog exog missing hasconst"),
    "WLS": words("endog exog weights missing hasconst"),
    "GLM": words("endog exog family offset exposure freq_weights var_weights missing hasconst"),
    "Logit": words("endog exog offset missing hasconst"),
    "ExponentialSmoothing": words("""
        endog trend damped_trend seasonal seasonal_periods initialization_method initial_level initial_trend
        initial_seasonal use_boxcox missing
    """),
}
KEYWORDS: Final = {"add_constant": words("data has_constant prepend")}
MODELS_OFFERED: Final = {
    "statsmodels.api": words("GLM Logit OLS WLS"),
    "statsmodels.regression.linear_model": words("OLS WLS"),
    "statsmodels.tsa.holtwinters": words("ExponentialSmoothing"),
    "statsmodels.tsa.api": words("ExponentialSmoothing"),
}
SUBSPACES: Final = {"statsmodels.api": words("families tsa")}
FAMILIES: Final = words("Binomial Gamma Gaussian NegativeBinomial Poisson")

MODULES: Final = frozenset({
    "sklearn", "statsmodels", "statsmodels.tsa", "statsmodels.regression", *CLASSES, *FUNCTIONS, *MODELS_OFFERED,
})  # fmt: skip


def offered_by(module: str) -> frozenset[str]:
    """Return the names that a module offers, its submodules among them."""
    below = {name[len(module) + 1 :] for name in MODULES if name.startswith(f"{module}.")}
    return frozenset().union(
        *(table.get(module, frozenset()) for table in (CLASSES, FUNCTIONS, MODELS_OFFERED, SUBSPACES)),
        {name for name in below if "." not in name},
    )


ESTIMATOR: Final = words("""
    fit fit_predict fit_transform predict predict_proba predict_log_proba transform inverse_transform
    decision_function score kneighbors apply staged_predict get_feature_names_out get_depth get_n_leaves
    coef_ intercept_ classes_ n_features_in_ feature_names_in_ n_iter_ n_outputs_ alpha_ feature_importances_
    oob_score_ train_score_ n_estimators_ labels_ cluster_centers_ inertia_ core_sample_indices_ n_clusters_ n_leaves_
    children_ components_ explained_variance_ explained_variance_ratio_ singular_values_ mean_ n_components_
    noise_variance_ var_ scale_ min_ data_min_ data_max_ data_range_ n_samples_seen_ categories_ drop_idx_
    infrequent_categories_ powers_ n_output_features_ X_min_ X_max_ X_thresholds_ y_thresholds_ max_features_ rank_
    singular_
""")
SPLITTER: Final = words("get_n_splits split")
MODEL: Final = words("endog_names exog_names fit")
RESULTS: Final = words("""
    aic bic aicc bse centered_tss condition_number conf_int converged cov_params deviance df_model df_resid ess
    eigenvals f_pvalue fittedfcast fittedvalues forecast fvalue level llf llnull llr llr_pvalue mse_model mse_resid
    mse_total nobs null_deviance params pearson_chi2 predict prsquared pvalues resid resid_deviance
    resid_pearson resid_response rsquared rsquared_adj scale season sse ssr slope summary trend tvalues uncentered_tss
    pred_table get_prediction params_formatted
""")
PREDICTION: Final = words("conf_int predicted_mean se_mean summary_frame")
SUMMARY: Final = words("as_text")
