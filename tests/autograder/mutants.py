"""Mutants: copies of a solution with one small thing changed, each of which a good spec must catch.

After the operators of classic mutation testing (DeMillo, Lipton and Sayward, 1978), and what goes wrong with tensors:
axes, keywords, letters of an einsum.
"""

import ast
import copy
from collections.abc import Iterator

_SWAPS = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Pow: ast.Mult,
    ast.MatMult: ast.Mult,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.And: ast.Or,
    ast.Or: ast.And,
}


def mutants(source: str) -> Iterator[tuple[str, str]]:
    """Yield (description, source) for every mutant of the one function or class that `source` defines."""
    tree = ast.parse(source)
    seen = {ast.unparse(tree)}
    for path, node in _walk(tree, ()):
        for replacement in _replacements(node):
            mutant = copy.deepcopy(tree)
            _put(mutant, path, replacement)
            text = ast.unparse(ast.fix_missing_locations(mutant))
            if text not in seen:
                seen.add(text)
                after = "nothing" if isinstance(replacement, ast.Pass) else ast.unparse(replacement)
                yield f"{ast.unparse(node)} → {after}", text


def _walk(node: ast.AST, path: tuple) -> Iterator[tuple[tuple, ast.AST]]:
    """Every node below `node` that runs when the function is called, with the way to it."""
    for name, value in ast.iter_fields(node):
        if name in ("decorator_list", "returns", "annotation"):
            continue
        for index, child in enumerate(value) if isinstance(value, list) else [(None, value)]:
            if isinstance(child, ast.AST) and not _is_docstring(child):
                step = (*path, (name, index))
                yield step, child
                yield from _walk(child, step)


def _is_docstring(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _put(tree: ast.AST, path: tuple, replacement: ast.AST) -> None:
    *way, (name, index) = path
    for field, number in way:
        tree = getattr(tree, field) if number is None else getattr(tree, field)[number]
    if index is None:
        setattr(tree, name, replacement)
    else:
        getattr(tree, name)[index] = replacement


def _replacements(node: ast.AST) -> Iterator[ast.AST]:
    match node:
        case ast.BinOp() if type(node.op) in _SWAPS:
            yield _with(node, op=_SWAPS[type(node.op)]())
        case ast.BoolOp():
            yield _with(node, op=_SWAPS[type(node.op)]())
        case ast.Compare() if type(node.ops[0]) in _SWAPS:
            yield _with(node, ops=[_SWAPS[type(node.ops[0])](), *node.ops[1:]])
        case ast.UnaryOp(op=ast.USub() | ast.Invert() | ast.Not()):
            yield node.operand
        case ast.Constant(value=bool()):
            yield ast.Constant(not node.value)
        case ast.Constant(value=int()):
            yield ast.Constant(node.value + 1)
            yield ast.Constant(node.value - 1)
        case ast.Constant(value=float()):
            yield ast.Constant(node.value + 1.0)
            yield ast.Constant(-node.value)
        case ast.Constant(value=str()) if "->" in node.value:
            yield from map(ast.Constant, _einsum_mutants(node.value))
        case ast.Call():
            for dropped in node.keywords:
                yield _with(node, keywords=[keyword for keyword in node.keywords if keyword is not dropped])
            if isinstance(node.func, ast.Attribute) and not isinstance(node.func.value, ast.Name):
                yield node.func.value  # x.f().g() → x.f()
            elif isinstance(node.func, ast.Attribute) and node.func.value.id not in ("torch", "F", "math", "np", "nn"):
                yield node.func.value  # x.f() → x
            if len(node.args) > 1 and not any(isinstance(argument, ast.Starred) for argument in node.args):
                yield _with(node, args=[node.args[1], node.args[0], *node.args[2:]])
        case ast.Subscript():
            yield node.value  # x[:, None] → x
        case ast.Tuple() if len(node.elts) > 1:
            yield _with(node, elts=[node.elts[1], node.elts[0], *node.elts[2:]])
        case ast.Assign() | ast.AugAssign() | ast.Expr() | ast.If() | ast.For() | ast.While():
            yield ast.Pass()


def _with(node: ast.AST, **changes: object) -> ast.AST:
    changed = copy.copy(node)
    for name, value in changes.items():
        setattr(changed, name, value)
    return changed


def _einsum_mutants(equation: str) -> Iterator[str]:
    """Swap neighbours and drop letters, in every term and in the output."""
    inputs, output = equation.split("->")
    for index in range(len(output)):
        yield f"{inputs}->{output[:index]}{output[index + 1 :]}"
    for index in range(len(output) - 1):
        yield f"{inputs}->{output[:index]}{output[index + 1]}{output[index]}{output[index + 2 :]}"
    for index in range(len(inputs) - 1):
        if "," not in inputs[index : index + 2]:
            yield f"{inputs[:index]}{inputs[index + 1]}{inputs[index]}{inputs[index + 2 :]}->{output}"
