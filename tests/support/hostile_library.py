"""Hostile programs against pandas and numpy: their readers and writers, their evaluators, their dispatch by name."""

from tests.support.hostile import Attack, act, body, inside, plain, steal

_RESAMPLED = "s = pd.Series([1.0], index=pd.to_datetime(['2026-01-01']))\n"

ATTACKS = {
    "pandas, numpy and pyarrow input and output": {
        "pandas_read_csv": act("loot = pd.read_csv(p['secret'])"),
        "pandas_read_csv_computed": act("loot = getattr(pd, 'read' + '_csv')(p['secret'])"),
        "pandas_read_pickle": act(
            "class R:\n    def read(self, n=-1):\n        return b'cos\\nmkdir\\n(V' + p['folder'].encode() + b'/pwned\\ntR.'\n"
            "    def readline(self):\n        return self.read()\npd.read_pickle(R())"
        ),
        "pandas_to_csv": act("pd.DataFrame({'x': [1]}).to_csv(p['folder'] + '/out.csv')"),
        "pandas_to_csv_computed": act("getattr(pd.DataFrame({'x': [1]}), 'to' + '_csv')(p['folder'] + '/out.csv')"),
        "pandas_to_string": act("pd.DataFrame({'x': [1]}).to_string(p['folder'] + '/out.txt')"),
        "pandas_to_numpy_path": act("getattr(pd.Series([1]).to_numpy(), 'to' + 'file')(p['folder'] + '/t')"),
        "pandas_url": act("loot = pd.read_csv('http://127.0.0.1:' + str(p['port']) + '/')"),
        "pandas_show_versions": act("pd.show_versions(as_json=p['folder'] + '/v')"),
        "pandas_map_read_csv": act("loot = pd.Series([p['secret']]).map(pd.read_csv)"),
        "pandas_hdf": act("pd.HDFStore(p['folder'] + '/h')"),
        "pandas_excel": act("pd.ExcelWriter(p['folder'] + '/x.xlsx')"),
        "pandas_clipboard": act("loot = pd.read_clipboard()"),
        "pandas_option_file": act("pd.set_option('display.max_rows', 1)\npd.Series([1]).to_pickle(p['folder'] + '/o')"),
        "numpy_load": act("loot = np.load(p['secret'], allow_pickle=True)"),
        "numpy_load_computed": act("loot = getattr(np, 'lo' + 'ad')(p['secret'], allow_pickle=True)"),
        "numpy_save": act("np.save(p['folder'] + '/n', np.ones(2))"),
        "numpy_tofile": act("np.ones(2).tofile(p['folder'] + '/n')"),
        "numpy_memmap": act("loot = np.memmap(p['secret'], mode='r')[:]"),
        "numpy_fromfile": act("loot = np.fromfile(p['secret'], dtype='u1')"),
        "numpy_genfromtxt": act("loot = np.genfromtxt(p['secret'], dtype='U99')"),
        "numpy_ctypeslib": act(
            "libc = np.ctypeslib.ctypes.CDLL(None)\nr = libc.creat(p['folder'].encode() + b'/y', 0o600)\nif r < 0:\n    raise OSError('refused')"
        ),
        "numpy_datasource": act("loot = np.lib.npyio.DataSource().open(p['secret']).read()"),
        "numpy_f2py": act("np.f2py.os.mkdir(p['folder'] + '/f2')"),
        "pyarrow_file": plain("loot = pyarrow.memory_map(p['secret']).read()", "pyarrow"),
        "pyarrow_csv": plain("loot = csv.read_csv(p['secret'])", "pyarrow.csv as csv"),
        "pyarrow_by_dtype": act("loot = pd.Series(['a'], dtype='string[pyarrow]')\nloot.to_pickle(p['folder'] + '/pa')"),
    },
    "pandas and numpy evaluation and dispatch": {
        "pandas_agg_to_csv": act("pd.Series([1]).agg('to_csv', 0, p['folder'] + '/b')"),
        "pandas_frame_agg_to_csv": act("pd.DataFrame({'x': [1]}).agg('to_csv', 0, p['folder'] + '/a')"),
        "pandas_apply_to_pickle": act("pd.DataFrame({'x': [1]}).apply('to_pickle', path=p['folder'] + '/c')"),
        "pandas_groupby_agg_name": act("pd.DataFrame({'x': [1], 'k': [1]}).groupby('k')['x'].agg('to_csv', p['folder'] + '/d')"),
        "pandas_transform_name": act("pd.Series([1]).transform('to_csv', 0, p['folder'] + '/e')"),
        "pandas_resample_agg": act(_RESAMPLED + "s.resample('D').agg('to_csv', p['folder'] + '/f')"),
        "pandas_rolling_agg": act("pd.Series([1.0, 2.0]).rolling(1).agg('to_csv', p['folder'] + '/ro')"),
        "pandas_pivot_positional": act("pd.pivot_table(pd.DataFrame({'k': [1], 'v': [1]}), 'v', 'k', None, 'to_csv')\nraise ValueError"),
        "pandas_agg_dict_value": act("pd.DataFrame({'x': [1]}).agg({'x': 'to_csv'}, 0, p['folder'] + '/dd')"),
        "pandas_agg_series_of_names": act("pd.Series([1]).agg(pd.Series(['to_csv']), 0, p['folder'] + '/sn')"),
        "pandas_agg_named": act("pd.DataFrame({'x': [1], 'k': [1]}).groupby('k').agg(a=pd.NamedAgg('x', 'to_pickle'))\nraise ValueError"),
        "pandas_agg_list_swap": act(
            "def swap(s):\n    funcs[1] = '__sizeof__'\n    return 0\nfuncs = [swap, 'mean']\nloot = pd.Series([1.0, 2.0]).agg(funcs)\n"
            "if loot.iloc[1] == 1.5:\n    raise ValueError('the swap had no effect')\npd.Series([1]).to_pickle(p['folder'] + '/swap')"
        ),
        "pandas_agg_list_swapped_inside": inside(
            "def swap(s):\n    funcs[1] = '__sizeof__'\n    return 0\nfuncs = [swap, 'mean']\nloot = pd.Series([1.0, 2.0]).agg(funcs)\n"
            "if loot.iloc[1] == 1.5:\n    raise ValueError('the swap had no effect')"
        ),
        "pandas_agg_dunder": steal("lambda o, n: pd.Series([o], dtype='object').agg('__getattribute__', 0, n) if n == 'x' else pd.Series([o]).agg('__getattribute__', 0, n)", head="import pandas as pd\n"),
        "pandas_agg_dunder_inside": inside("loot = pd.Series([1]).agg(chr(95) * 2 + 'getattribute' + chr(95) * 2, 0, chr(95) * 2 + 'class' + chr(95) * 2)"),
        "pandas_apply_args_dunder": inside("loot = pd.Series([1]).apply(chr(95) * 2 + 'reduce' + chr(95) * 2)"),
        "pandas_agg_str_subclass": inside("class S(str):\n    def __eq__(self, o):\n        return True\n    def __hash__(self):\n        return hash('sum')\nloot = pd.Series([1]).agg(S('to_csv'))"),
        "pandas_agg_numpy_text": act("pd.Series([1]).agg(np.str_('to_csv'), 0, p['folder'] + '/np')"),
        "pandas_query_engine": act("d = pd.DataFrame({'x': [1]})\nd.query('@pd.io.common.os.mkdir(@p[\"folder\"] + \"/q\")', engine='python')"),
        "pandas_eval": act("loot = pd.eval('__import__(\"os\").listdir(\"/\")')"),
        "pandas_frame_eval_computed": act("getattr(pd.DataFrame({'x': [1]}), 'ev' + 'al')('@pd.io.common.os.mkdir(@p[\"folder\"] + \"/ev\")')"),
        "pandas_io_common_os": act("pd.io.common.os.mkdir(p['folder'] + '/g')"),
        "pandas_accessor": act(
            "class A:\n    def __init__(self, o):\n        self.o = o\npd.api.extensions.register_series_accessor('loot')(A)\n"
            "pd.Series([1]).to_pickle(p['folder'] + '/h')"
        ),
        "pandas_pipe": act("pd.Series([1]).pipe(lambda s: getattr(s, 'to' + '_pickle')(p['folder'] + '/pi'))"),
        "pandas_engine_keyword": inside("loot = pd.DataFrame({'x': [1.0]}).apply(lambda r: r, engine='numba')"),
        "pandas_plot": act("pd.Series([1]).plot().figure.savefig(p['folder'] + '/pl')"),
        "pandas_style": act("pd.DataFrame({'x': [1]}).style.to_html(p['folder'] + '/st')"),
        "pandas_attrs_of_method": inside("loot = getattr(pd.Series([1]).sum, chr(95) * 2 + 'self' + chr(95) * 2)"),
        "pandas_series_map_getattr": inside("loot = pd.Series([()]).map(lambda t: getattr(t, chr(95) * 2 + 'class' + chr(95) * 2)).iloc[0]"),
        "numpy_vectorize": inside("loot = np.vectorize(lambda t: t)([1])"),
        "numpy_frompyfunc": inside("loot = np.frompyfunc(lambda t: t, 1, 1)([1])"),
        "numpy_piecewise_getattr": inside("n = chr(95) * 2 + 'array_interface' + chr(95) * 2\nloot = np.piecewise(np.ones(2), [np.array([True, True])], [lambda a: getattr(a, n)['data'][0]])"),
        "numpy_apply_along_axis": inside("n = 'ct' + 'ypes'\nloot = np.apply_along_axis(lambda a: getattr(a, n).data, 0, np.ones(2))"),
        "numpy_forged_object": Attack(body("a = np.ndarray((4,), dtype='O', buffer=b'A' * 32)\nreturn {'x': {'x': [str(a[0])]}}")),
        "numpy_strides": inside("loot = np.lib.stride_tricks.as_strided(np.ones(1), (1000,), (8,))"),
        "numpy_view_as_objects": Attack(body("a = np.ones(4).view('O')\nreturn {'x': {'x': [str(a[0])]}}")),
    },
}  # fmt: skip
