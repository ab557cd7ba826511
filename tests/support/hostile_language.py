"""Hostile programs against the language: from an ordinary value to the interpreter, and from there to the machine."""

from tests.support.hostile import LOOT, PANDAS, Attack, act, body, frame, inside, plain, steal

_WALK = "[c for c in ().__class__.__base__.__subclasses__() if c.__name__ == '_wrap_close'][0].__init__.__globals__"
_READ = "loot = open(p['secret']).read()"

ATTACKS = {
    "attribute walks": {
        "walk_subclasses": act(f"loot = {_WALK}['open'](p['secret'], 0)", ""),
        "walk_wrap_close": act(f"g = {_WALK}\ng['mkdir'](p['folder'] + '/w')", ""),
        "walk_getattr_builtin": steal("getattr"),
        "walk_getattr_by_map": steal("lambda o, n: list(map(getattr, [o], [n]))[0]"),
        "walk_getattr_by_partial": steal("lambda o, n: partial(getattr, o)(n)", head="from functools import partial\n"),
        "walk_getattr_by_reduce": steal("lambda o, n: reduce(getattr, [n], o)", head="from functools import reduce\n"),
        "walk_getattr_by_starmap": steal("lambda o, n: list(starmap(getattr, [(o, n)]))[0]", head="from itertools import starmap\n"),
        "walk_getattr_default": steal("lambda o, n: getattr(o, n, None)"),
        "walk_str_subclass_name": steal("lambda o, n: getattr(o, S(n))", "class S(str):\n    def startswith(self, *a):\n        return False"),
        "walk_text_from_numpy": steal("lambda o, n: getattr(o, np.str_(n))", head=PANDAS),
        "walk_property_getter": steal("lambda o, n: property(lambda s: getattr(s, n)).fget(o)"),
        "walk_function_globals": act("loot = data.ask.__func__.__globals__['__builtins__']['open'](p['secret']).read()", ""),
        "walk_method_self": act("loot = print.__self__.open(p['secret']).read()", ""),
        "walk_closure": inside("loot = getattr(data.ask, chr(95) * 2 + 'closure' + chr(95) * 2)[0].cell_contents", ""),
        "walk_bound_method_self": inside("loot = getattr([].append, chr(95) * 2 + 'self' + chr(95) * 2)", ""),
        "walk_module_loader": act("loot = pd.__loader__.get_data(p['secret'])"),
        "walk_module_dict": inside("loot = getattr(pd, chr(95) * 2 + 'dict' + chr(95) * 2)"),
        "walk_namespace_table": inside("loot = pd.table"),
        "walk_constructor_real": inside("loot = pd.DataFrame.real"),
        "walk_data_exchange": inside("loot = data._exchange", ""),
        "walk_match_class_pattern": inside("match ():\n    case object(__class__=k):\n        loot = k", ""),
        "walk_guard_name_as_argument": inside("def f(_getattr_, /):\n    return ().__class__\nloot = f(0)", ""),
        "walk_import_star": Attack("from os import *\n" + body(f"loot = listdir(p['folder'])\n{LOOT}", "")),
        "walk_vars": inside("loot = vars(data)", ""),
        "walk_dir": inside("loot = dir(data)", ""),
        "walk_type_of_type": inside("loot = type(type(data)).mro(type(data))", ""),
        "walk_super": inside("class A:\n    def f(self):\n        return super().__class__\nloot = A().f()", ""),
        "walk_print_self": inside("loot = getattr(print, chr(95) * 2 + 'globals' + chr(95) * 2)", ""),
    },
    "frames and generators": {
        "frame_generator": act("g = (x for x in [1])\nloot = g.gi_frame.f_builtins['open'](p['secret']).read()", ""),
        "frame_getattr": frame("g = (x for x in [1])\nf = r(g, 'gi' + '_frame')"),
        "frame_getattr_default": frame("g = (x for x in [1])\nf = r(g, 'gi' + '_frame', None)"),
        "frame_traceback": frame("try:\n    1 / 0\nexcept ZeroDivisionError as e:\n    f = r(r(e, d + 'traceback' + d), 'tb' + '_frame')"),
        "frame_exit_traceback": frame(
            "class C:\n    def __enter__(self):\n        return self\n    def __exit__(self, k, e, t):\n        self.f = r(t, 'tb' + '_frame')\n"
            "        return True\nc = C()\nwith c:\n    1 / 0\nf = c.f"
        ),
        "frame_exit_traceback_named": act(
            "class C:\n    def __enter__(self):\n        return self\n    def __exit__(self, k, e, t):\n        self.f = t.tb_frame\n"
            "        return True\nc = C()\nwith c:\n    1 / 0\nloot = c.f.f_builtins['open'](p['secret']).read()", ""
        ),
        "frame_generator_throw": frame(
            "def g():\n    try:\n        yield\n    except ValueError as e:\n        yield r(r(e, d + 'traceback' + d), 'tb' + '_frame')\n"
            "i = g()\nnext(i)\nf = r(i, 'throw')(ValueError())"
        ),
        "frame_yield_from": frame("def a():\n    yield r(b, 'gi' + '_frame')\ndef c():\n    yield from a()\nb = c()\nf = next(b)"),
        "frame_generator_code": inside("loot = getattr((x for x in [1]), 'gi' + '_code')", ""),
        "frame_function_code": inside("loot = getattr(analyze, chr(95) * 2 + 'code' + chr(95) * 2)", ""),
        "frame_context_of_error": frame(
            "try:\n    try:\n        1 / 0\n    except ZeroDivisionError:\n        [][0]\nexcept IndexError as e:\n"
            "    f = r(r(r(e, d + 'context' + d), d + 'traceback' + d), 'tb' + '_frame')"
        ),
        "frame_sys": plain("loot = sys._getframe(2).f_builtins['open'](p['secret']).read()", "sys"),
        "frame_inspect": plain("loot = inspect.currentframe().f_builtins['open'](p['secret']).read()", "inspect"),
    },
    "format strings": {
        "format_walk": inside("loot = '{0.__class__.__init__.__globals__}'.format(data)"),
        "format_from_type": inside("loot = str.format('{0.__class__}', data)"),
        "format_map_walk": inside("loot = '{x.__class__}'.format_map({'x': data})"),
        "format_getattr": inside("f = getattr('{0.__class__}', 'for' + 'mat')\nloot = f(data)"),
        "format_type_getattr": inside("f = getattr(str, 'for' + 'mat')\nloot = f('{0.__class__}', data)"),
        "format_formatter": Attack(body(f"loot = string.Formatter().get_field('0.__class__', (data,), {{}})\n{LOOT}", "import string\n"), inside=True),
        "format_series_str": inside("loot = getattr(pd.Series(['{0.__class__}']).str, 'for' + 'mat')(data)"),
        "format_series_map": inside("loot = pd.Series([data]).map('{0.__class__}'.format).iloc[0]"),
        "format_nested_spec": inside("class A:\n    def __format__(self, s):\n        return s\nloot = f\"{A():{'{0.__class__}'}}\"", ""),
        "format_percent_names": inside("loot = '%(__class__)s' % data", ""),
        "format_builtin_spec": inside("loot = format(data, '__class__')", ""),
        "format_timestamp_spec": inside("loot = f\"{pd.Timestamp('2026-01-01'):{0.__class__}}\""),
    },
    "exceptions": {
        "exception_object": inside("try:\n    data.nothing\nexcept AttributeError as e:\n    loot = getattr(e, 'ob' + 'j')", ""),
        "exception_object_named": inside("try:\n    data.nothing\nexcept AttributeError as e:\n    loot = e.obj", ""),
        "exception_group": inside("try:\n    raise ExceptionGroup('x', [ValueError()])\nexcept* ValueError as e:\n    loot = e.__traceback__", ""),
        "exception_with_traceback": inside("try:\n    1 / 0\nexcept ZeroDivisionError as e:\n    loot = getattr(e, 'with' + '_traceback')", ""),
        "exception_context": inside("try:\n    1 / 0\nexcept ZeroDivisionError as e:\n    loot = getattr(e, chr(95) * 2 + 'context' + chr(95) * 2, 'x')\n    if loot == 'x':\n        raise ValueError from None", ""),
        "exception_hostile_text": Attack(body("class E(Exception):\n    def __str__(self):\n        while True:\n            pass\nraise E()", "")),
        "exception_text_not_text": Attack(body("class E(Exception):\n    def __str__(self):\n        return 7\nraise E()", "")),
        "exception_swallow_everything": Attack(body("while True:\n    try:\n        while True:\n            pass\n    except:\n        pass", "")),
        "exception_base": Attack(body(f"try:\n    raise SystemExit(0)\nexcept BaseException as e:\n    loot = e\n{LOOT}", ""), inside=True),
        "exception_exit": Attack(body("raise SystemExit(0)", "")),
        "exception_name_error_suggestion": inside("try:\n    datta\nexcept NameError as e:\n    loot = getattr(e, 'na' + 'me')", ""),
        "exception_stop_iteration": inside("class S(StopIteration):\n    pass\ntry:\n    raise S(data)\nexcept StopIteration as e:\n    loot = getattr(e, chr(95) * 2 + 'class' + chr(95) * 2)", ""),
    },
    "classes and metaclasses": {
        "metaclass_keyword": inside("class M(type):\n    pass\nclass C(metaclass=M):\n    pass\nloot = C", ""),
        "metaclass_base": inside("class C(dict):\n    pass\nloot = C()", ""),
        "metaclass_from_keyword_value": inside("class C(metaclass=lambda n, b, d: d):\n    pass\nloot = C", ""),
        "class_of_text": inside("class D(str):\n    pass\nloot = D()", ""),
        "class_of_frame": inside("class D(pd.DataFrame):\n    pass\nloot = D()"),
        "class_array_interface": act(
            "class C:\n    __array_interface__ = {'shape': (1 << 20,), 'typestr': '|u1', 'data': (4096, True), 'version': 3}\n"
            "loot = np.array(C()).sum()"
        ),
        "class_reduce": inside("class C:\n    def __reduce__(self):\n        return (print, (1,))\nloot = C()", ""),
        "class_monkeypatch": act("pd.DataFrame.to_dict = lambda s: 1\npd.Series([1]).to_pickle(p['folder'] + '/m')"),
        "class_monkeypatch_through_instance": inside("t = pd.DataFrame({'x': [1]})\nt.sum = lambda: 7\nloot = t.sum()"),
        "class_slots": inside("class C:\n    __slots__ = ('x',)\nloot = C()", ""),
        "class_init_subclass": inside("class C:\n    def __init_subclass__(cls, **k):\n        pass\nclass D(C):\n    pass\nloot = D", ""),
        "class_getitem": inside("class C:\n    def __class_getitem__(cls, k):\n        return cls.__mro__\nloot = C[0]", ""),
        "class_set_name": inside("class N:\n    def __set_name__(self, owner, name):\n        self.o = owner.__mro__\nclass C:\n    n = N()\nloot = C.n.o", ""),
        "class_get_descriptor": inside("class N:\n    def __get__(self, o, k):\n        return k.__mro__\nclass C:\n    n = N()\nloot = C.n", ""),
        "class_getattribute": inside("class C:\n    def __getattribute__(self, n):\n        return n\nloot = C().anything", ""),
        "class_del": inside("class C:\n    def __del__(self):\n        pass\nloot = C()", ""),
        "class_body_name": inside("class C:\n    __class__ = int\nloot = isinstance(C(), int)", ""),
        "class_qualname": inside("class C:\n    __qualname__ = 'x'\nloot = C", ""),
        "class_import_as_dunder": inside("class C:\n    from math import pi as __array__\nloot = C()", ""),
        "class_base_swap": inside("class A:\n    pass\nclass B:\n    pass\nB.__bases__ = (A,)\nloot = B", ""),
        "class_mro_entries": inside("class E:\n    def __mro_entries__(self, b):\n        return (dict,)\nclass C(E()):\n    pass\nloot = C()", ""),
        "class_prepare": inside("class M:\n    def __prepare__(self, *a):\n        return {}\nloot = M()", ""),
        "class_instancecheck": inside("class M:\n    def __instancecheck__(self, o):\n        return True\nloot = isinstance(1, M())", ""),
    },
    "decorators": {
        "decorator_exec": act("@exec\ndef f():\n    pass\n" + _READ, ""),
        "decorator_eval_chain": inside("@eval\n@str\nclass X:\n    pass\nloot = X", ""),
        "decorator_getattr": inside("n = chr(95) * 2 + 'code' + chr(95) * 2\n@lambda f: getattr(f, n)\ndef g():\n    pass\nloot = g", ""),
        "decorator_property_of_module": inside("@property\ndef analyze2(self):\n    return self.fget\nloot = getattr(analyze2, 'fg' + 'et')", ""),
        "decorator_class_to_value": inside("@lambda k: getattr(k, chr(95) * 2 + 'mro' + chr(95) * 2)\nclass C:\n    pass\nloot = C", ""),
        "decorator_staticmethod_func": inside("@staticmethod\ndef f():\n    pass\nloot = getattr(f, chr(95) * 2 + 'func' + chr(95) * 2)", ""),
        "decorator_cache_wrapped": inside("@lru_cache\ndef f():\n    pass\nloot = getattr(f, chr(95) * 2 + 'wrapped' + chr(95) * 2)", "from functools import lru_cache\n"),
        "decorator_partial_func": inside("loot = getattr(partial(len), 'fu' + 'nc')", "from functools import partial\n"),
    },
    "text as code": {
        "eval_text": act("loot = eval('open')(p['secret']).read()", ""),
        "compile_text": act("exec(compile('import os; os.mkdir(\"/x\")', '', 'exec'))", ""),
        "import_builtin": act("loot = __import__('os').listdir(p['folder'])", ""),
        "import_builtin_by_item": act("b = getattr(data, chr(95) * 2 + 'builtins' + chr(95) * 2)\nloot = b['op' + 'en'](p['secret']).read()", ""),
        "builtins_module": plain("loot = builtins.open(p['secret']).read()", "builtins"),
        "importlib": plain("loot = importlib.import_module('os').listdir(p['folder'])", "importlib"),
        "code_module": plain("code.InteractiveInterpreter().runcode('import os')\nloot = open(p['secret']).read()", "code"),
        "namedtuple_field_text": inside(
            "N = namedtuple('N', 'x, __import__')\nloot = N", "from collections import namedtuple\n"
        ),
        "namedtuple_type_name": inside(
            "N = namedtuple('N): __import__(chr(111)+chr(115)); (', 'x')\nloot = N", "from collections import namedtuple\n"
        ),
        "pickle_loads": plain("pickle.loads(b'cos\\nmkdir\\n(V' + p['folder'].encode() + b'/pk\\ntR.')", "pickle"),
        "import_dotted": act("loot = numpy.f2py.os.listdir(p['folder'])", "import numpy.f2py\n"),
        "import_relative": Attack("from . import os\n" + body(f"loot = os.listdir(p['folder'])\n{LOOT}", "")),
    },
}  # fmt: skip
