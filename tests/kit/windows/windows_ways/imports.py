"""Imports of Lockgate's own modules, whose `import os` and the like find other modules."""

import ast
import contextlib
import importlib.abc
import marshal
import os
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from importlib.util import MAGIC_NUMBER
from pathlib import Path
from types import CodeType, ModuleType

PACKAGES = ("gateway", "runtime", "convert")
IMITATED = ("asyncio", "os", "psutil", "select", "signal", "socket", "subprocess", "sys")
POSIX_ONLY = ("fcntl", "grp", "pty", "pwd", "resource", "termios", "tty")

_HERE = Path(__file__)
_KEPT = _HERE.parents[4] / ".pytest_cache" / "windows_ways" / MAGIC_NUMBER.hex()


class Finder(importlib.abc.MetaPathFinder):
    """Finds the modules of `PACKAGES` where Python finds them, and rewrites their imports."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname.partition(".")[0] not in PACKAGES:
            return None
        spec = PathFinder.find_spec(fullname, path)
        if spec is not None and isinstance(spec.loader, SourceFileLoader):
            spec.loader = _Loader(spec.loader.name, spec.loader.path)
        return spec


class _Loader(SourceFileLoader):
    def get_code(self, fullname: str) -> CodeType:
        """The rewritten code, which must never be among the bytecode that Python keeps. It is kept
        apart, because compiling takes a second for each process."""
        stamps = [os.stat(file).st_mtime_ns for file in (self.path, _HERE)]
        kept = _KEPT / fullname
        with contextlib.suppress(OSError, ValueError, EOFError, TypeError):
            found, code = marshal.loads(kept.read_bytes())
            if found == [self.path, *stamps]:
                assert isinstance(code, CodeType)
                return code
        tree = _Rewriter().visit(ast.parse(self.get_data(self.path), self.path))
        code = compile(ast.fix_missing_locations(tree), self.path, "exec", dont_inherit=True)
        kept.parent.mkdir(parents=True, exist_ok=True)
        new = kept.with_name(f"{kept.name}-{os.getpid()}")
        new.write_bytes(marshal.dumps([[self.path, *stamps], code]))
        os.replace(new, kept)
        return code


class _Rewriter(ast.NodeTransformer):
    def visit_Import(self, node: ast.Import) -> list[ast.stmt]:
        return [ast.copy_location(self._import(alias), node) for alias in node.names]

    def visit_ImportFrom(self, node: ast.ImportFrom) -> ast.ImportFrom:
        assert node.module not in (*IMITATED, *POSIX_ONLY), "import the module itself"
        return node

    def _import(self, alias: ast.alias) -> ast.stmt:
        if alias.name in IMITATED:
            return ast.ImportFrom("windows_ways.modules", [alias], 0)
        if alias.name in POSIX_ONLY:
            message = ast.Constant(f"No module named {alias.name!r}")
            return ast.Raise(ast.Call(ast.Name("ModuleNotFoundError", ast.Load()), [message], []))
        return ast.Import([alias])
