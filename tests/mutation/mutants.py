"""Finds all that could be got wrong in verification, and gets it wrong, one at a time.

No list of checks is kept, so none can be forgotten in it: whatever refuses, calls, compares or
filters inside a function is a place for mutants, found in the module's syntax tree.
"""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import CodeType

HOUSE = Path(__file__).parents[2] / "daemon"
# Modules that decide nothing about a signature: they ask for certificates, or put into words.
LEFT_OUT = frozenset({"csr", "explain", "inspection"})
# What a function is called that writes and reads nothing; its tests read what it wrote.
_WRITERS = re.compile(r"(serialize|build|format|encode)_.*|.*_json")

# kind -> what was done to the source
KINDS = {
    "refusal": "a raise does nothing",
    "call": "a call for its effect, mostly that of a check, is left out",
    "step": "a function that a table names does nothing",
    "condition": "one operand of an and or an or is left out",
    "boundary": "the ends of an interval change sides: < for <=, > for >=, and back",
    "comparison": "a comparison is always true, or always false",
    "filter": "what is passed over is not",
}

_STRICTNESS: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
}
_Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True, slots=True)
class Mutant:
    """One change of the source.

    Attributes:
        module: Dotted name.
        function: Its qualified name in the module.
        kind: One of `KINDS`.
        text: What is changed, and how; with *module*, *function* and *kind* it names the mutant.
        line: Where it is; a run of that line may notice.
        number: Which place of the module it is, in the order of the tree.
        lines: What the change lets happen or prevents, for the choice of tests; may be empty.
    """

    module: str
    function: str
    kind: str
    text: str
    line: int
    number: int
    lines: frozenset[int]

    @property
    def check(self) -> str:
        """The stable name under which the place refuses; empty if it is not a constant there."""
        found = re.match(r"(?:Verification|MissingDigest)Error\('([a-z0-9-]+)'\)", self.text)
        return found[1] if found and self.kind == "refusal" else ""

    @property
    def name(self) -> str:
        """What the mutant is called, wherever in the file it stands."""
        return f"{self.module}.{self.function}: {self.kind}: {self.text}"


def modules() -> list[str]:
    """Return the dotted names of all modules that verification is made of."""
    rooms = (HOUSE / "keylessd" / "core", HOUSE / "keylessd" / "policy")
    found = [path for room in rooms for path in sorted(room.glob("*.py")) if path.stem[0] != "_"]
    return [
        ".".join(path.relative_to(HOUSE).with_suffix("").parts)
        for path in found
        if path.stem not in LEFT_OUT
    ]


def source_of(module: str) -> Path:
    """Return the file of a module."""
    return HOUSE.joinpath(*module.split(".")).with_suffix(".py")


def mutants_of(module: str) -> list[Mutant]:
    """Return every mutant of a module."""
    return mutants_in(source_of(module).read_text(), module)


def mutants_in(source: str, module: str) -> list[Mutant]:
    """Return every mutant of a module's source."""
    places = _Places(source, module)
    places.visit(places.tree)
    seen: Counter[str] = Counter()
    found = []
    for mutant in places.found:
        seen[mutant.name] += 1
        again = seen[mutant.name]
        text = mutant.text if again == 1 else f"{mutant.text} ({again})"
        found.append(
            Mutant(
                mutant.module, mutant.function, mutant.kind, text, mutant.line, mutant.number,
                mutant.lines,
            )
        )  # fmt: skip
    return found


def code_of(mutant: Mutant, source: str) -> CodeType:
    """Return the code of the function that has the change.

    Args:
        mutant: From mutants_in().
        source: What it was found in.
    """
    places = _Places(source, mutant.module, target=mutant.number)
    tree = ast.fix_missing_locations(places.visit(places.tree))
    code = compile(tree, str(source_of(mutant.module)), "exec", dont_inherit=True)
    for found in _codes(code):
        if found.co_qualname == mutant.function:
            return found
    raise LookupError(mutant.name)


def _codes(code: CodeType) -> Iterator[CodeType]:
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield constant
            yield from _codes(constant)


class _Places(ast.NodeTransformer):
    """Numbers all places in a module, and changes the one whose number is the target."""

    def __init__(self, source: str, module: str, *, target: int | None = None) -> None:
        self.tree = ast.parse(source)
        self.found: list[Mutant] = []
        self._module = module
        self._target = target
        self._classes: list[str] = []
        self._function = ""
        self._steps = named_in_tables()
        self._parents = {
            child: node for node in ast.walk(self.tree) for child in ast.iter_child_nodes(node)
        }

    def _place(self, kind: str, node: ast.AST, text: str, lines: frozenset[int]) -> bool:
        """Note a place; return whether the change shall be made."""
        number = len(self.found)
        line = node.lineno if isinstance(node, ast.expr | ast.stmt) else 0
        self.found.append(Mutant(self._module, self._function, kind, text, line, number, lines))
        return number == self._target

    # --- where ---

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        self._classes.append(node.name)
        self.generic_visit(node)
        self._classes.pop()
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        if self._function:
            return self._inside(node)
        if _WRITERS.fullmatch(node.name):
            return node
        self._function = ".".join([*self._classes, node.name])
        if node.name in self._steps and self._place(
            "step", node.body[0], node.name, _lines(node.body)
        ):
            node.body = [ast.copy_location(ast.Pass(), node.body[0])]
        self._inside(node)
        self._function = ""
        return node

    def _inside(self, node: ast.FunctionDef) -> ast.AST:
        node.body = [
            changed
            for statement in node.body
            if isinstance(changed := self.visit(statement), ast.stmt)
        ]
        return node

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        if node.value is not None and self._function:
            node.value = self.visit(node.value)
        return node

    # --- what refuses ---

    def visit_Raise(self, node: ast.Raise) -> ast.AST:
        if self._function and self._place("refusal", node, _short(node), _lines([node])):
            return ast.copy_location(ast.Pass(), node)
        return node  # its message is nothing to check

    def visit_Expr(self, node: ast.Expr) -> ast.AST:
        if not self._function or not isinstance(node.value, ast.Call):
            return node
        if self._place("call", node, _short(node), _lines([node])):
            return ast.copy_location(ast.Pass(), node)
        return self.generic_visit(node)

    def visit_Assert(self, node: ast.Assert) -> ast.AST:
        return node  # for whoever reads the code; never false

    def visit_JoinedStr(self, node: ast.JoinedStr) -> ast.AST:
        return node

    def visit_Call(self, node: ast.Call) -> ast.AST:
        called = getattr(node.func, "id", getattr(node.func, "attr", ""))
        return node if called.endswith("Error") else self.generic_visit(node)

    # --- what decides ---

    def visit_BoolOp(self, node: ast.BoolOp) -> ast.AST:
        dropped = None
        if self._function:
            for number, operand in enumerate(node.values):
                text = f"{_short(operand)} in {_short(node)}"
                if self._place("condition", operand, text, self._decided_by(node)):
                    dropped = number
        self.generic_visit(node)
        if dropped is not None:
            del node.values[dropped]
            return node.values[0] if len(node.values) == 1 else node
        return node

    def visit_Compare(self, node: ast.Compare) -> ast.AST:
        constant = None
        if self._function:
            for number, operator in enumerate(node.ops):
                other = _STRICTNESS.get(type(operator))
                if other is None:
                    continue
                text = f"{_short(node)}, the {('first', 'second', 'third')[number]} sign"
                if self._place("boundary", node, text, self._decided_by(node)):
                    node.ops[number] = other()
            if self._is_worth_a_constant(node):
                for value in (True, False):
                    text = f"{_short(node)} is {value}"
                    if self._place("comparison", node, text, self._decided_by(node)):
                        constant = ast.copy_location(ast.Constant(value), node)
        self.generic_visit(node)
        return constant or node

    def _is_worth_a_constant(self, node: ast.Compare) -> bool:
        """Whether no other mutant does the same."""
        if any(type(operator) in _STRICTNESS for operator in node.ops):
            return False
        parent = self._parents[node]
        if isinstance(parent, ast.BoolOp):
            return False
        return not (isinstance(parent, ast.If) and isinstance(parent.body[0], ast.Raise))

    # --- what is passed over ---

    def visit_comprehension(self, node: ast.comprehension) -> ast.AST:
        dropped = None
        if self._function:
            for number, condition in enumerate(node.ifs):
                if self._place("filter", condition, _short(condition), frozenset()):
                    dropped = number
        self.generic_visit(node)
        if dropped is not None:
            del node.ifs[dropped]
        return node

    def visit_Continue(self, node: ast.Continue) -> ast.AST:
        condition = self._parents[node]
        text = _short(condition.test) if isinstance(condition, ast.If) else "continue"
        if self._place("filter", node, text, _lines([node])):
            return ast.copy_location(ast.Pass(), node)
        return node

    def _decided_by(self, node: ast.AST) -> frozenset[int]:
        """Return the lines that run only if the whole condition holds."""
        while not isinstance(node, ast.stmt):
            node = self._parents[node]
        if isinstance(node, ast.If):
            return _lines(node.body)
        return _lines([node])


@cache
def named_in_tables() -> frozenset[str]:
    """Return the names of all functions that a table of some module names, and nobody calls."""
    found: set[str] = set()
    for module in modules():
        for node in ast.parse(source_of(module).read_text()).body:
            if isinstance(node, ast.Assign | ast.AnnAssign):
                inside = list(ast.walk(node))
                found |= {item.id for item in inside if isinstance(item, ast.Name)}
                found |= {item.attr for item in inside if isinstance(item, ast.Attribute)}
    return frozenset(found)


def _lines(statements: list[ast.stmt]) -> frozenset[int]:
    return frozenset(
        node.lineno
        for statement in statements
        for node in ast.walk(statement)
        if isinstance(node, ast.expr | ast.stmt)
    )


def _short(node: ast.AST) -> str:
    """Return the source on one line, without what a message says."""
    if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
        first = node.exc.args[0] if node.exc.args else None
        name = repr(first.value) if isinstance(first, ast.Constant) else ""
        return f"{ast.unparse(node.exc.func)}({name[:60]})"
    if isinstance(node, ast.Raise):
        return "what was caught" if node.exc is None else ast.unparse(node.exc)
    text = " ".join(ast.unparse(node).split())
    return text if len(text) <= 100 else text[:97] + "..."
