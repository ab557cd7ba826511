"""Hostile programs, each run in a guest and judged by what happened in the world, not by what it says.

The world is a folder with a secret file, listeners on TCP, UDP and an abstract Unix socket, a secret in the environment and a
process that could be killed.  Every program runs twice: in the language that operators have, and as plain Python with
nothing but the walls of the operating system around it.
"""

import contextlib
import json
import os
import secrets
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from sandbox.runtime.host.guests import GuestHost, GuestLimits, Program

LIMITS = GuestLimits(cpu_s=0.4, wall_s=2.5, memory_bytes=256 << 20, questions=8, output_bytes=1 << 16)
HONEST = 'def analyze(data):\n    return {"n": data.parameters["n"]}\n'


class UnsafePlainGuestHost(GuestHost):
    """A host whose guests have no language layer; exists in this file only."""

    _command = (str(Path(__file__).with_name("unsafe_guest_zygote.py")),)


def body(text, head="import pandas as pd\nimport numpy as np\n"):
    lines = "".join(f"    {line}\n" for line in text.strip("\n").split("\n"))
    return f"{head}def analyze(data):\n    p = data.parameters\n{lines}"


def plain(text, imports="os"):
    return body(text, head=f"import {imports}\n")


LOOT = 'return {"loot": {"x": [str(loot)]}}'
WALK = "[c for c in ().__class__.__base__.__subclasses__() if c.__name__ == '_wrap_close'][0].__init__.__globals__"
CALL = "import ctypes\nlibc = ctypes.CDLL(None, use_errno=True)\n"


def native(text):
    """A program that calls the kernel directly and fails loudly when the kernel says no."""
    check = "if r == -1:\n    raise OSError(ctypes.get_errno(), 'refused')"
    return body(f"{text}\n{check}\nloot = r\n{LOOT}", head=CALL)


PROGRAMS = {
    # files
    "file_open": body(f"loot = open(p['secret']).read()\n{LOOT}", ""),
    "file_os_open": plain(f"loot = os.read(os.open(p['secret'], os.O_RDONLY), 99)\n{LOOT}"),
    "file_write": body("open(p['folder'] + '/new', 'w').write('x')\nloot = 1\n" + LOOT, ""),
    "file_pathlib": plain(f"loot = pathlib.Path(p['secret']).read_text()\n{LOOT}", "pathlib"),
    "file_listdir": plain(f"loot = os.listdir(p['folder'])\n{LOOT}"),
    "file_mkdir": plain(f"os.mkdir(p['folder'] + '/d')\nloot = 1\n{LOOT}"),
    "file_unlink": plain(f"os.unlink(p['secret'])\nloot = 1\n{LOOT}"),
    "file_symlink": plain(f"os.symlink('/etc/passwd', p['folder'] + '/l')\nloot = 1\n{LOOT}"),
    "file_fileinput": plain(f"loot = list(fileinput.input(p['secret']))\n{LOOT}", "fileinput"),
    "file_linecache": plain(f"loot = linecache.getlines(p['secret'])[0]\n{LOOT}", "linecache"),
    "file_sqlite": plain(f"sqlite3.connect(p['folder'] + '/db').execute('create table t(x)')\nloot = 1\n{LOOT}", "sqlite3"),
    "file_tempfile": plain(f"loot = tempfile.mkstemp(dir=p['folder'])\n{LOOT}", "tempfile"),
    "file_memfd": plain(f"loot = os.memfd_create('x')\n{LOOT}"),
    "file_chroot": plain(f"os.chroot('/')\nloot = 1\n{LOOT}"),
    "file_import_from_disk": plain(
        f"sys.path.insert(0, p['folder'])\nimport planted\nloot = planted.SECRET\n{LOOT}", "sys"
    ),
    # pandas and numpy as ways to files
    "pandas_read_csv": body(f"loot = pd.read_csv(p['secret'])\n{LOOT}"),
    "pandas_read_pickle": body(
        f"""
class R:
    def read(self, n=-1):
        return b'cos\\nsystem\\n(S"touch ' + p['folder'].encode() + b'/pwned"\\ntR.'
    def readline(self):
        return self.read()
pd.read_pickle(R())
loot = 1
{LOOT}"""
    ),
    "pandas_to_csv": body(f"pd.DataFrame({{'x': [1]}}).to_csv(p['folder'] + '/out.csv')\nloot = 1\n{LOOT}"),
    "pandas_to_string": body(f"pd.DataFrame({{'x': [1]}}).to_string(p['folder'] + '/out.txt')\nloot = 1\n{LOOT}"),
    "pandas_to_dict_into": body(
        "class Stop(Exception):\n    pass\n"
        f"pd.DataFrame({{'x': [1]}}).agg('to_csv', 0, p['folder'] + '/a')\nloot = 1\n{LOOT}"
    ),
    "pandas_agg_to_csv": body(f"pd.Series([1]).agg('to_csv', 0, p['folder'] + '/b')\nloot = 1\n{LOOT}"),
    "pandas_apply_to_pickle": body(f"pd.DataFrame({{'x': [1]}}).apply('to_pickle', path=p['folder'] + '/c')\nloot = 1\n{LOOT}"),
    "pandas_groupby_agg_name": body(
        f"pd.DataFrame({{'x': [1], 'k': [1]}}).groupby('k')['x'].agg('to_csv', p['folder'] + '/d')\nloot = 1\n{LOOT}"
    ),
    "pandas_transform_name": body(f"pd.Series([1]).transform('to_csv', 0, p['folder'] + '/e')\nloot = 1\n{LOOT}"),
    "pandas_resample_agg": body(
        "s = pd.Series([1.0], index=pd.to_datetime(['2026-01-01']))\n"
        f"s.resample('D').agg('to_csv', p['folder'] + '/f')\nloot = 1\n{LOOT}"
    ),
    "pandas_agg_list_swap": body(
        f"""
funcs = []
def swap(s):
    funcs[1] = 'to_csv'
    return 0
funcs.append(swap)
funcs.append('mean')
loot = pd.Series([1.0, 2.0]).agg(funcs)
if isinstance(loot.iloc[1], float):
    raise ValueError('the swap had no effect')
{LOOT}"""
    ),
    "pandas_agg_dunder": body(
        f"k = pd.Series([1]).agg('__getattribute__', 0, '__class__')\nloot = k.__mro__[-1].__subclasses__()\n"
        f"loot = open(p['secret']).read()\n{LOOT}"
    ),
    "pandas_query_engine": body(
        "d = pd.DataFrame({'x': [1]})\n"
        f"loot = d.query('@pd.io.common.os.system(\"touch {{}}/q\")'.format(p['folder']), engine='python')\n{LOOT}"
    ),
    "pandas_eval": body(f"loot = pd.eval('__import__(\"os\").listdir(\"/\")')\nloot = loot[0]\n{LOOT}"),
    "pandas_io_common_os": body(f"pd.io.common.os.mkdir(p['folder'] + '/g')\nloot = 1\n{LOOT}"),
    "pandas_sink_series_of_names": body(
        f"loot = pd.Series([1]).agg(pd.Series(['to_csv']))\npd.Series([1]).to_pickle(p['folder'] + '/i')\n{LOOT}"
    ),
    "pandas_pipe": body(f"loot = pd.Series([p['secret']]).map(pd.read_csv)\n{LOOT}"),
    "pandas_url": body(f"loot = pd.read_csv('http://127.0.0.1:' + str(p['port']) + '/')\n{LOOT}"),
    "pandas_show_versions": body(f"pd.show_versions(as_json=p['folder'] + '/v')\nloot = 1\n{LOOT}"),
    "pandas_accessor": body(
        "class A:\n    def __init__(self, o):\n        self.o = o\n"
        f"pd.api.extensions.register_series_accessor('loot')(A)\npd.Series([1]).to_pickle(p['folder'] + '/h')\nloot = 1\n{LOOT}"
    ),
    "numpy_load": body(f"loot = np.load(p['secret'], allow_pickle=True)\n{LOOT}"),
    "numpy_save": body(f"np.save(p['folder'] + '/n', np.ones(2))\nloot = 1\n{LOOT}"),
    "numpy_tofile": body(f"np.ones(2).tofile(p['folder'] + '/n')\nloot = 1\n{LOOT}"),
    "numpy_memmap": body(f"loot = np.memmap(p['secret'], mode='r')[:]\n{LOOT}"),
    "numpy_fromfile": body(f"loot = np.fromfile(p['secret'], dtype='u1')\n{LOOT}"),
    "numpy_genfromtxt": body(f"loot = np.genfromtxt(p['secret'], dtype='U99')\n{LOOT}"),
    "numpy_ctypeslib": body(
        "libc = np.ctypeslib.ctypes.CDLL(None)\nr = libc.creat(p['folder'].encode() + b'/y', 0o600)\n"
        f"if r < 0:\n    raise OSError('refused')\nloot = 1\n{LOOT}"
    ),
    "numpy_datasource": body(f"loot = np.lib.npyio.DataSource().open(p['secret']).read()\n{LOOT}"),
    "numpy_f2py": body(f"np.f2py.os.mkdir(p['folder'] + '/f2')\nloot = 1\n{LOOT}"),
    # sockets
    "socket_tcp": plain(f"socket.create_connection(('127.0.0.1', p['port']), 1)\nloot = 1\n{LOOT}", "socket"),
    "socket_udp": plain(
        f"socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('127.0.0.1', p['udp']))\nloot = 1\n{LOOT}", "socket"
    ),
    "socket_abstract": plain(
        f"s = socket.socket(socket.AF_UNIX)\ns.connect(chr(0) + p['abstract'])\nloot = 1\n{LOOT}", "socket"
    ),
    "socket_urllib": plain(
        f"loot = urllib.request.urlopen('http://127.0.0.1:' + str(p['port'])).read()\n{LOOT}", "urllib.request"
    ),
    "socket_pair": plain(f"loot = socket.socketpair()\n{LOOT}", "socket"),
    "socket_pass_descriptor": plain(
        f"s = socket.socket(fileno=3)\nsocket.send_fds(s, [b'x'], [3])\nloot = 1\n{LOOT}", "socket"
    ),
    # attribute walks
    "walk_subclasses": body(f"loot = {WALK}['open'](p['secret']).read()\n{LOOT}", ""),
    "walk_wrap_close": body(f"g = {WALK}\ng['mkdir'](p['folder'] + '/w')\nloot = 1\n{LOOT}", ""),
    "walk_getattr_builtin": body(
        f"k = getattr((), '__class__')\nloot = getattr(k, '__base__').__subclasses__()\nloot = open(p['secret']).read()\n{LOOT}", ""
    ),
    "walk_function_globals": body(f"loot = data.ask.__func__.__globals__['__builtins__']['open'](p['secret']).read()\n{LOOT}", ""),
    "walk_method_self": body(f"loot = [].append.__self__\nloot = print.__self__.open(p['secret']).read()\n{LOOT}", ""),
    "walk_closure": body(
        f"loot = data.ask.__closure__[0].cell_contents if data.ask.__closure__ else open(p['secret']).read()\n{LOOT}", ""
    ),
    "walk_module_loader": body(f"loot = pd.__loader__.get_data(p['secret'])\n{LOOT}"),
    "walk_str_subclass_name": body(
        "class S(str):\n    def startswith(self, *a):\n        return False\n"
        f"k = getattr((), S('__class__'))\nloot = k.__base__.__subclasses__()[0]\nloot = open(p['secret']).read()\n{LOOT}", ""
    ),
    "walk_match_class_pattern": body(
        f"match ():\n    case object(__class__=k):\n        loot = open(p['secret']).read()\n        {LOOT}", ""
    ),
    "walk_guard_name_as_argument": body(
        f"def f(_getattr_, /):\n    return ().__class__\nloot = f(0)\nloot = open(p['secret']).read()\n{LOOT}", ""
    ),
    "walk_import_star": "from os import *\n" + body(f"loot = listdir(p['folder'])\n{LOOT}", ""),
    # frames and generators
    "frame_generator": body(
        "g = (x for x in [1])\n"
        f"b = g.gi_frame.f_back.f_globals['__builtins__']\nloot = b['open'](p['secret']).read()\n{LOOT}", ""
    ),
    "frame_getattr": body(f"g = (x for x in [1])\nf = getattr(g, 'gi_frame')\nloot = f.f_builtins['open'](p['secret']).read()\n{LOOT}", ""),
    "frame_traceback": body(
        "try:\n    1 / 0\nexcept ZeroDivisionError as e:\n    f = e.__traceback__.tb_frame\n"
        f"loot = f.f_builtins['open'](p['secret']).read()\n{LOOT}", ""
    ),
    "frame_exit_traceback": body(
        "class C:\n    def __enter__(self):\n        return self\n    def __exit__(self, k, e, t):\n"
        "        self.f = t.tb_frame\n        return True\n"
        f"c = C()\nwith c:\n    1 / 0\nloot = c.f.f_builtins['open'](p['secret']).read()\n{LOOT}", ""
    ),
    "frame_sys": plain(f"loot = sys._getframe(2).f_builtins['open'](p['secret']).read()\n{LOOT}", "sys"),
    # format strings
    "format_walk": body(
        "loot = '{0.__class__.__init__.__globals__}'.format(data)\n" + f"loot = open(p['secret']).read()\n{LOOT}", ""
    ),
    "format_from_type": body(f"loot = str.format('{{0.__class__}}', data)\nloot = open(p['secret']).read()\n{LOOT}", ""),
    "format_map_walk": body(f"loot = '{{x.__class__}}'.format_map({{'x': data}})\nloot = open(p['secret']).read()\n{LOOT}", ""),
    "format_getattr": body(f"f = getattr('{{0.__class__}}', 'format')\nloot = f(data)\nloot = open(p['secret']).read()\n{LOOT}", ""),
    "format_formatter": plain(
        f"loot = string.Formatter().get_field('0.__class__', (data,), {{}})\nloot = open(p['secret']).read()\n{LOOT}", "string"
    ),
    "format_series_str": body(f"loot = getattr(pd.Series(['{{0.__class__}}']).str, 'format')(data)\nloot = open(p['secret']).read()\n{LOOT}"),
    # exceptions
    "exception_object": body(
        "try:\n    data.nothing\nexcept AttributeError as e:\n    o = e.obj\n" + f"loot = open(p['secret']).read()\n{LOOT}", ""
    ),
    "exception_group": body(
        "try:\n    raise ExceptionGroup('x', [ValueError()])\nexcept* ValueError as e:\n    k = e.__traceback__\n"
        f"loot = open(p['secret']).read()\n{LOOT}", ""
    ),
    "exception_hostile_text": body(
        "class E(Exception):\n    def __str__(self):\n        while True:\n            pass\nraise E()", ""
    ),
    "exception_swallow_everything": body("while True:\n    try:\n        while True:\n            pass\n    except:\n        pass", ""),
    # metaclasses and classes
    "metaclass_keyword": body(f"class M(type):\n    pass\nclass C(metaclass=M):\n    pass\nloot = open(p['secret']).read()\n{LOOT}", ""),
    "metaclass_base": body(f"class C(dict):\n    pass\nclass D(str):\n    pass\nloot = open(p['secret']).read()\n{LOOT}", ""),
    "class_array_interface": body(
        "class C:\n    __array_interface__ = {'shape': (1 << 20,), 'typestr': '|u1', 'data': (4096, True), 'version': 3}\n"
        f"loot = np.array(C()).sum()\n{LOOT}"
    ),
    "class_reduce": body(
        "class C:\n    def __reduce__(self):\n        return (print, (1,))\n" + f"loot = open(p['secret']).read()\n{LOOT}", ""
    ),
    "class_monkeypatch": body(f"pd.DataFrame.to_dict = lambda s: 1\npd.Series([1]).to_pickle(p['folder'] + '/m')\nloot = 1\n{LOOT}"),
    "decorator_exec": body(f"@exec\ndef f():\n    pass\nloot = open(p['secret']).read()\n{LOOT}", ""),
    "decorator_eval_chain": body(f"@eval\n@str\nclass X:\n    pass\nloot = 1\n{LOOT}", ""),
    "eval_text": body(f"loot = eval('open')(p['secret']).read()\n{LOOT}", ""),
    "compile_text": body(f"exec(compile('import os; os.mkdir(\"/x\")', '', 'exec'))\nloot = 1\n{LOOT}", ""),
    "import_builtin": body(f"loot = __import__('os').listdir(p['folder'])\n{LOOT}", ""),
    "builtins_module": plain(f"loot = builtins.open(p['secret']).read()\n{LOOT}", "builtins"),
    # native code
    "ctypes_read": native("r = libc.open(p['secret'].encode(), 0)"),
    "ctypes_executable_memory": native(
        "libc.mmap.restype = ctypes.c_long\nr = libc.mmap(0, 4096, 7, 34, -1, 0)"
    ),
    "ctypes_make_executable": native(
        "libc.mmap.restype = ctypes.c_long\na = libc.mmap(0, 4096, 3, 34, -1, 0)\nr = libc.mprotect(ctypes.c_long(a), 4096, 5)"
    ),
    "ctypes_ptrace": native("r = libc.ptrace(16, p['victim'], 0, 0)"),
    "ctypes_process_vm_readv": native("r = libc.process_vm_readv(p['victim'], None, 0, None, 0, 0)"),
    "ctypes_unshare": native("r = libc.unshare(0x10000000)"),
    "ctypes_mount": native("r = libc.mount(b'tmpfs', b'/', b'tmpfs', 0, None)"),
    "ctypes_second_table": native("r = libc.syscall(0x40000000 + 39)"),
    "ctypes_io_uring": native("r = libc.syscall(425, 1, 0)"),
    "ctypes_bpf": native("r = libc.syscall(321, 0, 0, 0)"),
    "ctypes_keyctl": native("r = libc.syscall(250, 0, -3, 0)"),
    "ctypes_userfaultfd": native("r = libc.syscall(323, 0)"),
    "ctypes_shared_memory": native("r = libc.shmget(1, 4096, 0o1600)"),
    "ctypes_undo_dumpable": native("r = libc.prctl(4, 1, 0, 0, 0)"),
    "ctypes_raise_limit": native("l = (ctypes.c_ulong * 2)(1 << 40, 1 << 40)\nr = libc.setrlimit(9, l)"),
    "ctypes_wild_pointer": body(f"loot = ctypes.string_at(8, 8)\n{LOOT}", CALL),
    "ctypes_clock": native("t = (ctypes.c_long * 2)()\nr = libc.clock_gettime(1, t)"),
    "ctypes_write_other_descriptor": native("r = libc.write(100, b'x', 1)"),
    "ctypes_duplicate": native("r = libc.dup(3)"),
    # the machine
    "proc_environ": plain(f"loot = open('/proc/1/environ', 'rb').read()\n{LOOT}"),
    "proc_maps": plain(f"loot = open('/proc/self/maps').read()\n{LOOT}"),
    "proc_memory": plain(f"loot = open('/proc/self/mem', 'rb').read(1)\n{LOOT}"),
    "environment": plain(f"loot = os.environ.get('SAGGAR_TEST_TOKEN') or os.environ['NOT THERE']\n{LOOT}"),
    "signal_victim": plain(f"os.kill(p['victim'], 9)\nloot = 1\n{LOOT}"),
    "signal_everyone": plain(f"os.kill(-1, 9)\nloot = 1\n{LOOT}"),
    "signal_zygote": plain(f"os.kill(1, 19)\nloot = 1\n{LOOT}"),
    "signal_catch_deadline": plain(
        "signal.signal(signal.SIGPROF, signal.SIG_IGN)\nloot = 1\n" + LOOT, "signal"
    ),
    "signal_disarm_timer": plain(f"signal.setitimer(signal.ITIMER_PROF, 0)\nloot = 1\n{LOOT}", "signal"),
    "clock_time": plain(f"loot = time.time() + time.monotonic() + time.perf_counter()\n{LOOT}", "time"),
    "clock_pandas": body(f"loot = pd.Timestamp('now')\nif loot.year == 1970:\n    raise ValueError('no clock')\n{LOOT}"),
    "clock_datetime": plain(
        f"loot = datetime.datetime.now()\nif loot.year == 1970:\n    raise ValueError('no clock')\n{LOOT}", "datetime"
    ),
    "clock_sleep": plain(f"time.sleep(0.01)\nloot = 1\n{LOOT}", "time"),
    "entropy": plain(f"loot = os.urandom(8)\n{LOOT}"),
    "entropy_secrets": plain(f"loot = secrets.token_hex()\n{LOOT}", "secrets"),
    "thread": plain(f"t = threading.Thread(target=print)\nt.start()\nt.join()\nloot = 1\n{LOOT}", "threading"),
    "subprocess": plain(f"loot = subprocess.run(['/bin/true'])\n{LOOT}", "subprocess"),
    "shell": plain(f"loot = os.system('touch ' + p['folder'] + '/s')\nif loot != 0:\n    raise OSError\n{LOOT}"),
    "execute": plain("os.execv('/bin/sh', ['sh', '-c', 'touch ' + p['folder'] + '/x'])"),
    # bombs
    "bomb_fork": plain("while True:\n    os.fork()"),
    "bomb_spin": body("while True:\n    pass", ""),
    "bomb_power": body(f"loot = 9 ** 9 ** 9\n{LOOT}", ""),
    "bomb_blas": body("a = np.ones((3000, 3000))\nwhile True:\n    a = a @ a / 3000"),
    "bomb_memory_list": body(f"loot = [0]\nwhile True:\n    loot = loot + loot\n{LOOT}", ""),
    "bomb_memory_text": body(f"loot = 'x' * (1 << 34)\n{LOOT}", ""),
    "bomb_memory_array": body(f"loot = np.ones(1 << 32)\n{LOOT}"),
    "bomb_width": body(f"loot = '%' + '9' * 9 + 'd'\nloot = loot % 1\n{LOOT}", ""),
    "bomb_recursion": body(f"def f(n):\n    return f(n + 1)\nloot = f(0)\n{LOOT}", ""),
    "bomb_nested_list": body("x = []\nfor _ in range(10 ** 6):\n    x = [x]\nreturn {'x': {'x': [x]}}", ""),
    "bomb_regex": body(
        f"loot = pd.Series(['a' * 40 + 'b']).str.match('(a+)+$')\n{LOOT}"
    ),
    "bomb_outputs": body("return {'x': {'x': list(range(10 ** 6))}}", ""),
    "bomb_output_names": body("return {str(i): i for i in range(5000)}", ""),
    "bomb_output_text": body("return {'x': {'x': ['y' * (1 << 20)]}}", ""),
    "bomb_questions": body("for i in range(100):\n    data.ask('SELECT 1')\nreturn {'n': 1}", ""),
    "bomb_long_question": body("data.ask('x' * (1 << 22))\nreturn {'n': 1}", ""),
    # outputs that are not plain
    "output_object": body("return {'x': data}", ""),
    "output_function": body("return {'x': {'x': [analyze]}}", ""),
    "output_none": body("p.clear()", ""),
    "output_hostile_float": body("class F:\n    def __eq__(self, o):\n        return True\nreturn {'x': F()}", ""),
}  # fmt: skip

# Frames that do not keep to the wire: only a program that has broken out of its language could send them.
WIRE = {
    "garbage": "os.write(3, b'\\xff' * 64)",
    "not_json": "os.write(3, b'\\x00\\x00\\x00\\x03abc')",
    "empty_frame": "os.write(3, b'\\x00\\x00\\x00\\x00')",
    "huge_announcement": "os.write(3, b'\\x7f\\xff\\xff\\xff')",
    "truncated_frame": "os.write(3, b'\\x00\\x00\\x00\\x09abc')\nos._exit(0)",
    "early_end": "os._exit(0)",
    "exit_code_of_the_walls": "os._exit(70)",
    "repeated_key": "send(b'{\"type\":\"result\",\"type\":\"result\",\"outputs\":{}}')",
    "not_a_number": "send(b'{\"type\":\"result\",\"outputs\":{\"n\":{\"kind\":\"number\",\"value\":NaN}}}')",
    "infinity": "send(b'{\"type\":\"result\",\"outputs\":{\"n\":{\"kind\":\"number\",\"value\":1e999}}}')",
    "large_integer": "send(b'{\"type\":\"result\",\"outputs\":{\"n\":{\"kind\":\"number\",\"value\":' + b'9' * 5000 + b'}}}')",
    "deep": "send(b'[' * 40000 + b']' * 40000)",
    "lone_surrogate": "send(b'{\"type\":\"result\",\"outputs\":{\"\\\\ud800\":{\"kind\":\"number\",\"value\":1}}}')",
    "unknown_type": "send(b'{\"type\":\"reboot\"}')",
    "bare_list": "send(b'[1]')",
    "nested_cells": "send(b'{\"type\":\"result\",\"outputs\":{\"t\":{\"kind\":\"table\",\"columns\":[\"a\"],\"rows\":[[[1]]]}}}')",
    "ragged_rows": "send(b'{\"type\":\"result\",\"outputs\":{\"t\":{\"kind\":\"table\",\"columns\":[\"a\"],\"rows\":[[1,2]]}}}')",
    "extra_field": "send(b'{\"type\":\"result\",\"outputs\":{\"n\":{\"kind\":\"number\",\"value\":1,\"more\":1}}}')",
    "malformed_question": "send(b'{\"type\":\"ask\",\"sql\":1,\"share\":null,\"rows\":null,\"groups\":null,\"index\":0}')",
    "question_with_extra": "send(b'{\"type\":\"ask\",\"sql\":\"x\",\"share\":null,\"rows\":null,\"groups\":null,\"index\":0,\"y\":1}')",
    "question_with_bound_zero": "send(b'{\"type\":\"ask\",\"sql\":\"x\",\"share\":null,\"rows\":0,\"groups\":null,\"index\":0}')",
    "flood": "while True:\n    send(b'{\"type\":\"ask\",\"sql\":\"x\",\"share\":null,\"rows\":null,\"groups\":null,\"index\":0}')",
    "out_of_turn": "os.write(3, 2 * frame(b'{\"type\":\"ask\",\"sql\":\"x\",\"share\":null,\"rows\":null,\"groups\":null,\"index\":0}'))",
    "second_check": "send(b'{\"type\":\"checked\",\"problem\":null}')",
    "silence": "while True:\n    os.read(3, 1)",
}  # fmt: skip
WIRE_HEAD = (
    "import os\ndef frame(b):\n    return len(b).to_bytes(4, 'big') + b\n"
    "def send(b):\n    b = frame(b)\n    while b:\n        b = b[os.write(3, b):]\n"
)


@dataclass
class World:
    """What a program could touch, and how the test would see that it did."""

    folder: Path
    token: str
    tcp: socket.socket
    udp: socket.socket
    abstract: socket.socket
    victim: subprocess.Popen

    @property
    def parameters(self):
        return {
            "folder": str(self.folder), "secret": str(self.folder / "secret"), "port": self.tcp.getsockname()[1],
            "udp": self.udp.getsockname()[1], "abstract": self.abstract.getsockname()[1:].decode(),
            "victim": self.victim.pid, "n": 7,
        }  # fmt: skip

    def touched(self, said):
        """Return what happened that must not happen."""
        marks = []
        if sorted(path.name for path in self.folder.iterdir()) != ["planted.py", "secret"]:
            marks.append("the folder changed")
        elif self.token not in (self.folder / "secret").read_text():
            marks.append("the secret changed")
        if self.token in said:
            marks.append("the secret came out")
        for name in ("tcp", "udp", "abstract"):
            with contextlib.suppress(BlockingIOError):
                channel = getattr(self, name)
                channel.recv(1) if name == "udp" else channel.accept()[0].close()
                marks.append(f"something arrived over {name}")
        if self.victim.poll() is not None:
            marks.append("the victim ended")
        return marks


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("world")
    for path in (folder, *list(folder.parents)[:2]):
        path.chmod(0o755)
    token = secrets.token_hex(16)
    (folder / "secret").write_text(f"the secret is {token}\n")
    (folder / "planted.py").write_text(f"SECRET = {token!r}\n")
    tcp = socket.create_server(("127.0.0.1", 0))
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    udp.bind(("127.0.0.1", 0))
    abstract = socket.socket(socket.AF_UNIX)
    abstract.bind("\0saggar-" + token)
    abstract.listen()
    victim = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"])
    os.environ["SAGGAR_TEST_TOKEN"] = token
    for channel in (tcp, udp, abstract):
        channel.setblocking(False)
    yield World(folder, token, tcp, udp, abstract, victim)
    del os.environ["SAGGAR_TEST_TOKEN"]
    victim.kill()
    victim.wait()
    for channel in (tcp, udp, abstract):
        channel.close()


@pytest.fixture(scope="module")
def spoken(world):
    with GuestHost() as host:
        yield host


@pytest.fixture(scope="module")
def unspoken(world):
    with UnsafePlainGuestHost() as host:
        yield host


def answer(request):
    return {
        "ok": True,
        "answer": {
            "columns": [{"name": "n", "role": "value"}], "rows": [[5]], "standard_errors": [[1.0]], "lower": [[3.0]],
            "upper": [[7.0]], "loss": {"measure": "zcdp", "amount": "1/8"}, "notes": [],
        },
    }  # fmt: skip


def run(host, world, source):
    asked = []

    def answer_and_note(request):
        asked.append(request)
        return answer(request)

    outcome = host.run(Program(source, world.parameters, bytes(32)), answer_and_note, limits=LIMITS)
    said = json.dumps([outcome.outputs, outcome.message, asked])
    assert world.touched(said) == []
    assert outcome.status != "ok", outcome.outputs
    assert outcome.outputs is None
    assert 0 < len(outcome.message) <= 500
    assert outcome.message.isprintable()
    after = host.run(Program(HONEST, world.parameters, bytes(32)), answer, limits=LIMITS)
    assert after.outputs == {"n": {"kind": "number", "value": 7}}
    return outcome


@pytest.mark.isolation
@pytest.mark.parametrize("name", PROGRAMS)
def test_a_hostile_program_does_nothing_in_its_language(spoken, world, name):
    run(spoken, world, PROGRAMS[name])


@pytest.mark.isolation
@pytest.mark.parametrize("name", PROGRAMS)
def test_a_hostile_program_does_nothing_with_the_walls_alone(unspoken, world, name):
    run(unspoken, world, PROGRAMS[name])


@pytest.mark.isolation
@pytest.mark.parametrize("name", WIRE)
def test_a_worker_that_breaks_the_wire_is_cut_off(unspoken, world, name):
    outcome = run(unspoken, world, WIRE_HEAD + body(WIRE[name] + "\nos.read(3, 1)", ""))
    assert outcome.status in {"protocol", "limit"}


def test_the_suite_is_large_enough_to_mean_something():
    assert len(PROGRAMS) + len(WIRE) >= 60


@pytest.mark.isolation
def test_the_detector_sees_each_effect(world):
    (world.folder / "new").write_text("x")
    assert world.touched("") == ["the folder changed"]
    (world.folder / "new").unlink()
    assert world.touched(f"... {world.token} ...") == ["the secret came out"]
    with socket.create_connection(world.tcp.getsockname()):
        assert world.touched("") == ["something arrived over tcp"]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.sendto(b"x", world.udp.getsockname())
    assert world.touched("") == ["something arrived over udp"]
    with socket.socket(socket.AF_UNIX) as caller:
        caller.connect(world.abstract.getsockname())
        assert world.touched("") == ["something arrived over abstract"]
    assert world.touched("") == []
