"""The compiler that Triton is told of; interpreted kernels never reach it."""

from __future__ import annotations

from triton.backends.compiler import BaseBackend


class Compiler(BaseBackend):  # type: ignore[misc]
    """Compiles nothing."""

    @staticmethod
    def supports_target(target: object) -> bool:
        return False

    def hash(self) -> str:
        raise NotImplementedError

    def parse_options(self, options: dict[str, object]) -> object:
        raise NotImplementedError

    def add_stages(self, *_: object) -> None:
        raise NotImplementedError

    def load_dialects(self, context: object) -> None:
        raise NotImplementedError

    def get_module_map(self) -> dict[str, object]:
        raise NotImplementedError
