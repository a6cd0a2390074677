"""Odd answers to chapter 2, right and wrong."""

import copy
import itertools
import math

import numpy as np
import torch
import torch.autograd.forward_ad as fwAD
from torch.func import grad, grad_and_value, jacfwd, jacrev, vmap


def _by_backward(f, x):
    leaf = x.clone().detach().requires_grad_(True)
    value = f(leaf)
    value.backward()
    return float(value), leaf.grad


def _by_grad_and_value(f, x):
    gradient, value = grad_and_value(f)(x.detach())
    return value.item(), gradient


def _row_after_row(w, X, y):
    w = w.detach()
    total = torch.zeros_like(w)
    for row, target in zip(X, y, strict=True):
        total += 2 * (row @ w - target) * row
    return total / len(y)


def _differences_in_place(f, x, eps=1e-4):
    own = x.detach().clone(memory_format=torch.contiguous_format)
    result = torch.zeros_like(own)
    with torch.no_grad():
        for index in np.ndindex(*x.shape):
            kept = own[index].item()
            own[index] = kept + eps
            above = f(own)
            own[index] = kept - eps
            result[index] = (above - f(own)) / (2 * eps)
            own[index] = kept
    return result


def _differences_at_once(f, x, eps=1e-4):
    steps = eps * torch.eye(x.numel(), dtype=x.dtype).reshape(x.numel(), *x.shape)
    x = x.detach()
    if not x.numel():
        return torch.zeros_like(x)
    return ((vmap(f)(x + steps) - vmap(f)(x - steps)) / (2 * eps)).reshape(x.shape)


def _descend_in_place(f, x0, lr, steps):
    x = x0.detach().clone().requires_grad_()
    path = torch.empty(steps + 1, *x0.shape, dtype=x0.dtype)
    path[0] = x.detach()
    for step in range(steps):
        x.grad = None
        f(x).backward()
        with torch.no_grad():
            x -= lr * x.grad
        path[step + 1] = x.detach()
    return path


def _descend_by_sgd(f, x0, lr, steps):
    x = x0.detach().clone().requires_grad_()
    optimizer, path = torch.optim.SGD([x], lr=lr), [x.detach().clone()]
    for _ in range(steps):
        optimizer.zero_grad()
        f(x).backward()
        optimizer.step()
        path.append(x.detach().clone())
    return torch.stack(path)


def _descend_by_func(f, x0, lr, steps):
    path = [x0.detach()]
    for _ in range(steps):
        path += [path[-1] - lr * grad(f)(path[-1])]
    return torch.stack(path, dim=0)


def _freeze_by_attribute(model, prefixes):
    chosen = {n: p for n, p in model.named_parameters() if any(n.startswith(prefix) for prefix in prefixes)}
    for parameter in chosen.values():
        parameter.requires_grad = False
    return list(chosen)


def _freeze_by_state(model, prefixes):
    names = [name for name in model.state_dict() if any(name[: len(prefix)] == prefix for prefix in prefixes)]
    for name in names:
        model.get_parameter(name).requires_grad_(requires_grad=False)
    return names


def _freeze_by_modules(model, prefixes):
    found = set()
    for path, module in model.named_modules():
        for name, parameter in module.named_parameters(prefix=path, recurse=False):
            if any(name.find(prefix) == 0 for prefix in prefixes):
                parameter.requires_grad = False
                found.add(name)
    return [name for name, _ in model.named_parameters() if name in found]


def _roots_by_mask(x):
    result = torch.zeros_like(x)
    result[x > 0] = x[x > 0].sqrt()
    return result


class _OldStyle(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return torch.round(x)

    @staticmethod
    def backward(ctx, *gradients):
        return gradients[0].clone()


class _WithLeftovers(_OldStyle):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x - torch.remainder(x, 1) if x.numel() == 0 else x.detach().clone().round_()

    @staticmethod
    def backward(ctx, gradient):
        (x,) = ctx.saved_tensors
        return torch.ones_like(x) * gradient


def _samples_by_copies(loss, w, x, y):
    copies = w.detach().expand(len(x), *w.shape).clone().requires_grad_()
    return torch.autograd.grad(vmap(loss)(copies, x, y).sum(), copies)[0]


def _samples_of_the_leaf(loss, leaf, x, y):
    losses = vmap(loss, in_dims=(None, 0, 0))(leaf, x, y)
    return torch.autograd.grad(losses, leaf, torch.eye(len(x), dtype=leaf.dtype), is_grads_batched=True)[0]


def _samples_batched(loss, w, x, y):
    return _samples_of_the_leaf(loss, w.detach().requires_grad_(), x, y)


def _hessian_batched(f, x):
    leaf = x.detach().clone().requires_grad_()
    first = torch.autograd.grad(f(leaf), leaf, create_graph=True)[0] + 0 * leaf
    return torch.autograd.grad(first, leaf, torch.eye(len(x), dtype=x.dtype), is_grads_batched=True)[0]


def _hessian_by_rows(f, x):
    x = x.detach().requires_grad_()
    first = torch.autograd.grad(f(x), x, create_graph=True)[0]
    result = torch.zeros(len(x), len(x), dtype=x.dtype)
    for i in range(len(x)):
        if first[i].requires_grad:
            row = torch.autograd.grad(first[i], x, create_graph=True, allow_unused=True)[0]
            result[i] = 0 if row is None else row.detach()
    return result


def _jvp_by_rows(f, x, v):
    x, v = x.detach().requires_grad_(), v.detach()
    products = []
    for output in f(x):
        row = torch.autograd.grad(output, x, retain_graph=True, allow_unused=True)[0]
        products.append(x.new_zeros(()) if row is None else row @ v)
    return torch.stack(products)


def _jvp_batched(f, x, v):
    x = x.detach().requires_grad_()
    y = f(x)
    (jacobian,) = torch.autograd.grad(y, x, torch.eye(len(y), dtype=x.dtype), is_grads_batched=True)
    return (jacobian * v).sum(dim=1).detach()


def _jvp_twice_from_zero(f, x, v):
    x = x.detach().requires_grad_()
    y = f(x)
    u = torch.zeros_like(y).requires_grad_()
    back = torch.autograd.grad(y, [x], [u], create_graph=True)[0]
    return torch.autograd.grad((back * v.detach()).sum(), u)[0]


def _penalty_with_ones(critic, x):
    x = x.clone().detach().requires_grad_(True)
    scores = critic(x)
    slopes = torch.autograd.grad(scores, x, grad_outputs=torch.ones_like(scores), create_graph=True)[0]
    return torch.mean((slopes.pow(2).sum(1).sqrt() - 1) ** 2)


def _penalty_cleared_after_backward(critic, x):
    x = x.detach().requires_grad_()
    critic(x).sum().backward(create_graph=True)
    critic.zero_grad()
    return (x.grad.norm(dim=1) - 1).square().mean()


def _penalty_row_by_row(critic, x):
    slopes = []
    for row in x.detach():
        leaf = row.clone().requires_grad_()
        slopes += torch.autograd.grad(critic(leaf[None])[0], leaf, create_graph=True)
    return sum((slope.norm() - 1) ** 2 for slope in slopes) / len(slopes)


def _penalty_by_func(critic, x):
    slopes = vmap(grad(lambda row: critic(row[None])[0]))(x.detach())
    return (torch.linalg.vector_norm(slopes, dim=-1) - 1).pow(2).mean()


def _ridge_mended(x, y, decay, lr, steps):
    w = torch.zeros((), dtype=x.dtype, requires_grad=True)
    b = torch.zeros((), dtype=x.dtype, requires_grad=True)
    losses = []
    for _ in range(steps):
        loss = (w * x + b - y).square().mean() + decay * w**2
        w.grad, b.grad = None, None
        loss.backward()
        with torch.no_grad():
            w -= lr * w.grad
            b -= lr * b.grad
        losses.append(float(loss))
    return float(w), float(b), losses


def _ridge_detached(x, y, decay, lr, steps):
    w = torch.zeros((), dtype=x.dtype, requires_grad=True)
    b = torch.zeros((), dtype=x.dtype, requires_grad=True)
    losses = []
    for _ in range(steps):
        loss = torch.nn.functional.mse_loss(w * x + b, y) + decay * w.square()
        loss.backward(inputs=[w, b])
        for parameter in (w, b):
            parameter.data -= lr * parameter.grad
            parameter.grad.zero_()
        losses.append(loss.detach())
    return w.item(), b.item(), [loss.item() for loss in losses]


def _ridge_by_sgd(x, y, decay, lr, steps):
    line = torch.zeros(2, dtype=x.dtype, requires_grad=True)
    optimizer, losses = torch.optim.SGD([line], lr=lr), torch.zeros(steps, dtype=x.dtype)
    for step in range(steps):
        optimizer.zero_grad()
        loss = (line[0] * x + line[1] - y).pow(2).mean() + decay * line[0].pow(2)
        loss.backward()
        optimizer.step()
        losses[step] = loss.detach()
    return (*line.tolist(), losses.tolist())


def _ridge_point_by_point(x, y, decay, lr, steps):
    w, b = (torch.zeros((), dtype=x.dtype, requires_grad=True) for _ in range(2))
    losses = []
    for _ in range(steps):
        squares = [(w * x_i + b - y_i) ** 2 for x_i, y_i in zip(x, y, strict=True)]
        loss = sum(squares) / len(x) + decay * w * w
        gradients = torch.autograd.grad(loss, [w, b], create_graph=True)
        with torch.no_grad():
            w.sub_(lr * gradients[0])
            b.sub_(lr * gradients[1])
        losses += [loss.item()]
    return w.item(), b.item(), losses


def _ridge_with_new_leaves(x, y, decay, lr, steps):
    w, b, losses = x.new_zeros(()), x.new_zeros(()), []
    for _ in range(steps):
        w, b = w.detach().requires_grad_(), b.detach().requires_grad_()
        loss = (w * x + b - y).square().mean() + decay * w**2
        loss.backward()
        w, b = w - lr * w.grad, b - lr * b.grad
        losses.append(float(loss))
    return float(w), float(b), losses


def _ridge_by_hand(x, y, decay, lr, steps):
    w = b = 0.0
    losses = []
    for _ in range(steps):
        errors = w * x + b - y
        losses += [(errors.square().mean() + decay * w**2).item()]
        w, b = w - lr * ((2 * errors * x).mean().item() + 2 * decay * w), b - lr * (2 * errors).mean().item()
    return w, b, losses


class _Closures:
    """Micrograd's way, with the results' gradients cleared: a closure per result, and a recursive topological sort."""

    def __init__(self, data, children=()):
        self.data, self.grad, self.children, self.push = data, 0.0, set(children), None

    def result(self, data, children, push):
        out = type(self)(data, children)
        out.push = lambda: push(out)
        return out

    def __add__(self, other):
        other = other if isinstance(other, _Closures) else type(self)(other)

        def push(out):
            self.grad += out.grad
            other.grad += out.grad

        return self.result(self.data + other.data, (self, other), push)

    def __mul__(self, other):
        other = other if isinstance(other, _Closures) else type(self)(other)

        def push(out):
            self.grad += other.data * out.grad
            other.grad += self.data * out.grad

        return self.result(self.data * other.data, (self, other), push)

    def __pow__(self, n):
        def push(out):
            self.grad += n * self.data ** (n - 1) * out.grad

        return self.result(self.data**n, (self,), push)

    def tanh(self):
        def push(out):
            self.grad += (1 - out.data**2) * out.grad

        return self.result(float(np.tanh(self.data)), (self,), push)

    def relu(self):
        def push(out):
            self.grad += (out.data > 0) * out.grad

        return self.result(max(0, self.data), (self,), push)

    def topological(self):
        order, seen = [], set()

        def visit(node):
            if node not in seen:
                seen.add(node)
                for child in node.children:
                    visit(child)
                order.append(node)

        visit(self)
        return order

    def backward(self):
        order = self.topological()
        for node in order:
            if node.push:
                node.grad = 0.0
        self.grad += 1
        for node in reversed(order):
            if node.push:
                node.push()

    __radd__, __rmul__ = __add__, __mul__
    __neg__ = lambda self: self * -1  # noqa: E731
    __sub__ = lambda self, other: self + (-other)  # noqa: E731
    __rsub__ = lambda self, other: other + (-self)  # noqa: E731
    __truediv__ = lambda self, other: self * other**-1  # noqa: E731
    __rtruediv__ = lambda self, other: other * self**-1  # noqa: E731


class _Arriving(_Closures):
    """Keeps what arrives apart from grad, which only leaves get."""

    def backward(self):
        order = self.topological()
        kept = {node: node.grad for node in order}
        for node in order:
            node.grad = 0.0
        self.grad = 1.0
        for node in reversed(order):
            if node.push:
                node.push()
        for node, before in kept.items():
            node.grad = 0.0 if node.push else np.float64(before + node.grad)


class _Forwards:
    """Carries the derivatives by all leaves along: forward mode."""

    names = itertools.count()

    def __init__(self, data, slopes=None):
        self.data, self.grad = data, 0.0
        self.slopes = {self: 1.0} if slopes is None else slopes

    def through(self, data, slope, other=None, other_slope=0.0):
        slopes = {leaf: slope * value for leaf, value in self.slopes.items()}
        for leaf, value in other.slopes.items() if other else ():
            slopes[leaf] = slopes.get(leaf, 0.0) + other_slope * value
        return type(self)(data, slopes)

    def lift(self, other):
        return other if isinstance(other, _Forwards) else type(self)(other, {})

    def __add__(self, other):
        other = self.lift(other)
        return self.through(self.data + other.data, 1.0, other, 1.0)

    def __mul__(self, other):
        other = self.lift(other)
        return self.through(self.data * other.data, other.data, other, self.data)

    def __pow__(self, n):
        return self.through(self.data**n, n * self.data ** (n - 1))

    def __truediv__(self, other):
        other = self.lift(other)
        return self.through(self.data / other.data, 1 / other.data, other, -self.data / other.data**2)

    def tanh(self):
        t = math.tanh(self.data)
        return self.through(t, 1 - t**2)

    def relu(self):
        return self.through(max(self.data, 0.0), float(self.data > 0))

    def backward(self):
        for leaf, slope in self.slopes.items():
            leaf.grad += slope

    __radd__, __rmul__ = __add__, __mul__
    __neg__ = lambda self: self * -1  # noqa: E731
    __sub__ = lambda self, other: self + (-other)  # noqa: E731
    __rsub__ = lambda self, other: -self + other  # noqa: E731
    __rtruediv__ = lambda self, other: self.lift(other) / self  # noqa: E731


def _jvp_with_the_graph_of_v(f, x, v):
    leaf = x.detach().clone().requires_grad_()
    out = f(leaf)
    if not out.requires_grad:
        return torch.zeros(len(out), dtype=x.dtype)
    rows = [torch.autograd.grad(o, leaf, retain_graph=True, materialize_grads=True)[0] for o in out]
    return torch.stack([row @ v for row in rows])


def _forward_mode(f, x, v):
    with fwAD.dual_level():
        tangent = fwAD.unpack_dual(f(fwAD.make_dual(x.detach(), v.detach()))).tangent
        return torch.zeros_like(f(x)).detach() if tangent is None else tangent


def _differences_on_clones(f, x, eps=1e-4):
    result = torch.zeros_like(x)
    for i in range(x.numel()):
        above, below = x.clone(), x.clone()
        above.view(-1)[i] += eps
        below.view(-1)[i] -= eps
        result.view(-1)[i] = (f(above) - f(below)) / (2 * eps)
    return result


def _differences_by_rows(f, x, eps=1e-4):
    rows = torch.eye(x.numel(), dtype=x.dtype).reshape(-1, *x.shape)
    return torch.stack([(f(x + eps * row) - f(x - eps * row)) / (2 * eps) for row in rows]).reshape(x.shape)


def _differences_by_vmap(f, x, eps=1e-4):
    rows = torch.eye(x.numel(), dtype=x.dtype).reshape(-1, *x.shape)
    return vmap(lambda row: (f(x + eps * row) - f(x - eps * row)) / (2 * eps))(rows).reshape(x.shape)


def _descend_plainly_by_sgd(f, x0, lr, steps):
    x = x0.clone().requires_grad_()
    optimizer, path = torch.optim.SGD([x], lr=lr), [x0.clone()]
    for _ in range(steps):
        optimizer.zero_grad()
        f(x).backward()
        optimizer.step()
        path.append(x.clone())
    return torch.stack(path)


def _descend_in_a_list(f, x0, lr, steps):
    x, path = x0, [x0]
    for _ in range(steps):
        x = x - lr * grad(f)(x)
        path.append(x)
    return torch.stack(path)


def _descend_in_the_data(f, x0, lr, steps):
    x = x0.clone().requires_grad_(True)
    path = [x.data.clone()]
    for _ in range(steps):
        f(x).backward()
        x.data -= lr * x.grad
        x.grad.zero_()
        path.append(x.data.clone())
    return torch.stack(path)


def _descend_with_a_graph(f, x0, lr, steps):
    x = x0.requires_grad_()
    path = [x]
    for _ in range(steps):
        x = x - lr * torch.autograd.grad(f(x), x)[0]
        path.append(x)
    return torch.stack(path)


def _hessian_by(row_of, on=lambda x: x.requires_grad_(True)):
    """Plain Hessians, with x switched on in place, row by row."""

    def answer(f, x):
        x = on(x)
        (g,) = torch.autograd.grad(f(x), x, create_graph=True)
        return torch.stack([row_of(g, x, i) for i in range(len(x))])

    return answer


def _unit(x, i):
    e = torch.zeros_like(x)
    e[i] = 1
    return e


def _hessian_allowing_unused(g, x, i):
    row = torch.autograd.grad(g[i], x, retain_graph=True, allow_unused=True)[0]
    return torch.zeros_like(x) if row is None else row


def _hessian_of_all_rows(f, x):
    x = x.clone().requires_grad_(True)
    (g,) = torch.autograd.grad(f(x), x, create_graph=True)
    return torch.autograd.grad(g, x, torch.eye(len(x), dtype=x.dtype), is_grads_batched=True)[0]


def _jvp_switching_x_on(f, x, v):
    x.requires_grad_(True)
    y = f(x)
    return torch.stack([torch.autograd.grad(one, x, retain_graph=True)[0] for one in y]) @ v


class _NoMinusSign(_Closures):
    """Subtracts without -a, and has tanh by exponentials."""

    __neg__ = None
    __sub__ = lambda self, other: self + other * -1  # noqa: E731
    __rsub__ = lambda self, other: self * -1 + other  # noqa: E731

    def tanh(self):
        e = math.exp(2 * self.data)

        def push(out):
            self.grad += (1 - out.data**2) * out.grad

        return self.result((e - 1) / (e + 1), (self,), push)


class _EveryWay:
    """Walks every way through the graph on its own."""

    def __init__(self, data, edges=()):
        self.data, self.grad, self.edges = data, 0.0, edges

    def __add__(self, other):
        other = other if isinstance(other, _EveryWay) else _EveryWay(other)
        return _EveryWay(self.data + other.data, [(self, 1), (other, 1)])

    def __mul__(self, other):
        other = other if isinstance(other, _EveryWay) else _EveryWay(other)
        return _EveryWay(self.data * other.data, [(self, other.data), (other, self.data)])

    def __pow__(self, n):
        return _EveryWay(self.data**n, [(self, n * self.data ** (n - 1))])

    def tanh(self):
        t = math.tanh(self.data)
        return _EveryWay(t, [(self, 1 - t**2)])

    def relu(self):
        return _EveryWay(max(0, self.data), [(self, 1 if self.data > 0 else 0)])

    def backward(self, seed=1.0):
        self.grad += seed
        for parent, slope in self.edges:
            parent.backward(seed * slope)

    __radd__, __rmul__ = __add__, __mul__
    __sub__ = lambda self, other: self + other * -1  # noqa: E731
    __rsub__ = lambda self, other: self * -1 + other  # noqa: E731
    __truediv__ = lambda self, other: self * other**-1  # noqa: E731
    __rtruediv__ = lambda self, other: self**-1 * other  # noqa: E731


RIGHT = {
    "value_and_gradient": {
        "backward": _by_backward,
        "torch.func": _by_grad_and_value,
        "a clone": lambda f, x: (
            f(x).item(),
            torch.autograd.grad(f(own := x.clone().detach().requires_grad_()), [own])[0],
        ),
    },
    "mse_gradient": {
        "transposed": lambda w, X, y: (X.T @ (X @ w - y) * (2 / X.shape[0])).detach(),
        "einsum": lambda w, X, y: torch.einsum("nd,n->d", X, torch.einsum("nd,d->n", X, w.data) - y).mul(2).div(len(X)),
        "a mean over rows": torch.no_grad()(lambda w, X, y: ((X @ w - y)[:, None] * X).mean(dim=0) * 2),
        "NumPy": lambda w, X, y: torch.from_numpy(
            2 * X.numpy().T @ (X.numpy() @ w.detach().numpy() - y.numpy()) / len(y)
        ),
        "row after row": _row_after_row,
    },
    "numerical_gradient": {
        "in place on a copy": _differences_in_place,
        "all at once": _differences_at_once,
        "on clones": _differences_on_clones,
        "unit rows": _differences_by_rows,
        "vmap": _differences_by_vmap,
    },
    "gradient_descent": {
        "in place": _descend_in_place,
        "an optimiser": _descend_by_sgd,
        "torch.func": _descend_by_func,
        "an optimiser, plainly": _descend_plainly_by_sgd,
        "a list": _descend_in_a_list,
        "in .data": _descend_in_the_data,
        "with a graph": _descend_with_a_graph,
    },
    "freeze": {
        "by attribute": _freeze_by_attribute,
        "from the state": _freeze_by_state,
        "by sets of names": _freeze_by_modules,
    },
    "safe_sqrt": {
        "relu before the root": lambda x: x.relu().sqrt(),
        "one where, before the root": lambda x: torch.where(x > 0, x, 0.0).sqrt(),
        "masked fill": lambda x: x.masked_fill(x <= 0, 1).sqrt().masked_fill(x <= 0, 0),
        "by index": _roots_by_mask,
    },
    "RoundSTE": {"old style": _OldStyle, "with leftovers": _WithLeftovers},
    "per_sample_gradients": {
        "a copy of w for each": _samples_by_copies,
        "batched": _samples_batched,
        "jacrev": lambda loss, w, x, y: jacrev(lambda w: vmap(loss, in_dims=(None, 0, 0))(w, x, y))(w.data),
        "argnums": torch.no_grad()(
            lambda loss, w, x, y: vmap(grad(loss, argnums=0), in_dims=(None, 0, 0), out_dims=0)(w, x, y)
        ),
    },
    "hessian": {
        "batched, with a zero": _hessian_batched,
        "row by row": _hessian_by_rows,
        "plain": _hessian_by(lambda g, x, i: torch.autograd.grad(g[i], x, retain_graph=True)[0]),
        "allow_unused": _hessian_by(_hessian_allowing_unused, lambda x: x.detach().clone().requires_grad_()),
        "batched": _hessian_of_all_rows,
        "create_graph twice": _hessian_by(lambda g, x, i: torch.autograd.grad(g[i], x, create_graph=True)[0]),
        "grad_outputs": _hessian_by(
            lambda g, x, i: torch.autograd.grad(g, x, grad_outputs=_unit(x, i), retain_graph=True)[0]
        ),
    },
    "jvp": {
        "torch.func.jvp": lambda f, x, v: torch.func.jvp(f, (x.detach(),), (v.detach(),))[1],
        "forward mode": _forward_mode,
        "jacrev": lambda f, x, v: jacrev(f)(x.detach()) @ v,
        "a graph through v": _jvp_with_the_graph_of_v,
        "functional": lambda f, x, v: torch.autograd.functional.jvp(f, x.detach(), v)[1],
        "row by row": _jvp_by_rows,
        "batched": _jvp_batched,
        "twice, from zero": _jvp_twice_from_zero,
        "switches x on": _jvp_switching_x_on,
    },
    "gradient_penalty": {
        "grad_outputs": _penalty_with_ones,
        "row by row": _penalty_row_by_row,
        "torch.func": _penalty_by_func,
    },
    "fit_ridge": {
        "mended": _ridge_mended,
        "by hand": _ridge_by_hand,
        "losses detached": _ridge_detached,
        "an optimiser": _ridge_by_sgd,
        "point by point": _ridge_point_by_point,
        "new leaves": _ridge_with_new_leaves,
    },
    "Value": {
        "closures": _Closures,
        "results without a grad": _Arriving,
        "forward mode": _Forwards,
        "no minus sign, tanh by exponentials": _NoMinusSign,
        "every way on its own": _EveryWay,
    },
}


def _with_a_graph(f, x):
    leaf = x.detach().requires_grad_()
    value = f(leaf)
    return value.item(), torch.autograd.grad(value, leaf, create_graph=True)[0] * (1 + 0 * leaf)


def _leaves_a_gradient(f, x):
    x.requires_grad_()
    value = f(x)
    value.backward()
    return value.item(), x.grad


def _forward_mode_by_rows(f, x):
    x = x.detach()
    rows = [_forward_mode(lambda x: f(x).reshape(1), x, row)[0] for row in torch.eye(x.numel(), dtype=x.dtype)]
    return torch.stack(rows).reshape(x.shape)


def _forward_over_backward(f, x):
    rows = []
    for direction in torch.eye(len(x), dtype=x.dtype):
        with fwAD.dual_level():
            leaf = fwAD.make_dual(x.detach().requires_grad_(), direction)
            tangent = fwAD.unpack_dual(torch.autograd.grad(f(leaf), leaf, create_graph=True)[0]).tangent
            rows.append(torch.zeros_like(direction) if tangent is None else tangent.detach())
    return torch.stack(rows)


def _ridge_keeping(losses_of, mend=lambda loss: loss):
    def fit(x, y, decay, lr, steps):
        w, b = (torch.zeros((), dtype=x.dtype, requires_grad=True) for _ in range(2))
        losses = []
        for _ in range(steps):
            loss = (w * x + b - y).square().mean() + decay * w**2
            w.grad = b.grad = None
            loss.backward()
            with torch.no_grad():
                w -= lr * w.grad
                b -= lr * b.grad
            losses.append(mend(loss))
        return w.item(), b.item(), losses_of(losses)

    return fit


def _ridge_in_a_tensor(x, y, decay, lr, steps):
    line, losses = torch.zeros(2, dtype=x.dtype, requires_grad=True), torch.zeros(steps, dtype=x.dtype)
    for step in range(steps):
        loss = torch.nn.functional.mse_loss(line[0] * x + line[1], y) + decay * line[0] ** 2
        (slope,) = torch.autograd.grad(loss, line)
        line.data -= lr * slope
        losses[step] = loss
    return (*line.tolist(), losses.tolist())


def _ridge_in_one_graph(x, y, decay, lr, steps):
    w, b = (torch.zeros((), dtype=x.dtype, requires_grad=True) for _ in range(2))
    losses = []
    for _ in range(steps):
        loss = (w * x + b - y).square().mean() + decay * w**2
        slopes = torch.autograd.grad(loss, (w, b))
        w, b = w - lr * slopes[0], b - lr * slopes[1]
        losses.append(loss.item())
    return w.item(), b.item(), losses


def _freeze_copies(model, prefixes):
    names = _freeze_by_attribute(copy.deepcopy(model), prefixes)
    for name in names:
        path, _, last = name.rpartition(".")
        old = model.get_parameter(name)
        new = torch.nn.Parameter(old.detach().clone(), requires_grad=False)
        new.grad = old.grad
        setattr(model.get_submodule(path), last, new)
    return names


def _freeze_without_gradients(model, prefixes):
    names = _freeze_by_attribute(model, prefixes)
    for name in names:
        model.get_parameter(name).grad = None
    return names


class _Doubles(_Closures):
    """A second backward begins from nothing."""

    def backward(self):
        for node in self.topological():
            node.grad = 0.0
        super().backward()


class _NoNumbers(_Closures):
    """Knows no numbers on the left."""

    __radd__ = __rmul__ = __rsub__ = __rtruediv__ = None


class _OnTensors(_Closures):
    """Tensors in place of numbers."""

    def __init__(self, data, children=()):
        super().__init__(torch.tensor(float(data), dtype=torch.float64), children)


class _EqualIsSame(_Closures):
    """Takes equal numbers for the same node."""

    def __eq__(self, other):
        return self.data == other.data

    def __hash__(self):
        return hash(self.data)


class _OnlyPositive(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.round()

    @staticmethod
    def backward(ctx, gradient):
        return gradient * (ctx.saved_tensors[0] > 0)


class _InPlace(_OldStyle):
    @staticmethod
    def forward(ctx, x):
        return x.data.round_().clone()


class _RoundsToInt(_OldStyle):
    @staticmethod
    def forward(ctx, x):
        return x.round().to(torch.int64)


WRONG = {
    "value_and_gradient": {
        "a graph on the gradient": _with_a_graph,
        "a gradient left in x": _leaves_a_gradient,
        "forgets to detach": lambda f, x: ((v := f(x)).item(), torch.autograd.grad(v, x)[0]),
        "a list": lambda f, x: list(_by_backward(f, x)),
    },
    "mse_gradient": {
        "autograd": lambda w, X, y: _by_backward(lambda w: (X @ w - y).square().mean(), w)[1],
        "torch.func": lambda w, X, y: grad(lambda w: (X @ w - y).square().mean())(w),
        "a graph through w": lambda w, X, y: 2 / len(y) * X.T @ (X @ w - y),
        "forward mode": lambda w, X, y: _forward_mode_by_rows(lambda w: (X @ w - y).square().mean(), w),
        "torch.func.jacfwd": lambda w, X, y: jacfwd(lambda w: (X @ w - y).square().mean())(w.detach()),
        "float32 on the way": lambda w, X, y: _row_after_row(w.float(), X.float(), y.float()).to(w.dtype),
        "a column": lambda w, X, y: _row_after_row(w, X, y)[:, None],
    },
    "numerical_gradient": {
        "autograd": lambda f, x, eps=1e-4: _by_backward(f, x)[1],
        "torch.func": lambda f, x, eps=1e-4: grad(f)(x.detach()),
        "forward mode": lambda f, x, eps=1e-4: _forward_mode_by_rows(f, x),
        "a step of its own": lambda f, x, eps=1e-4: _differences_in_place(f, x, 1e-5),
        "float32 on the way": lambda f, x, eps=1e-4: _differences_in_place(f, x.float(), eps).to(x.dtype),
    },
    "gradient_descent": {
        "a list": lambda f, x0, lr, steps: list(_descend_by_func(f, x0, lr, steps)),
        "one more step": lambda f, x0, lr, steps: _descend_by_func(f, x0, lr, steps + 1),
        "momentum": lambda f, x0, lr, steps: _descend_by_func(f, x0, lr, steps) * 1.001,
        "clipped": lambda f, x0, lr, steps: _descend_by_func(lambda x: f(x) / 2, x0, 2 * lr, steps).clamp(-3, 3),
    },
    "freeze": {
        "in evaluation mode": lambda model, prefixes: _freeze_by_attribute(model.eval(), prefixes),
        "in training mode": lambda model, prefixes: _freeze_by_attribute(model.train(), prefixes),
        "frozen copies": _freeze_copies,
        "gradients thrown away": _freeze_without_gradients,
        "a set": lambda model, prefixes: set(_freeze_by_attribute(model, prefixes)),
        "sorted backwards": lambda model, prefixes: _freeze_by_attribute(model, prefixes)[::-1],
        "the first prefix alone": lambda model, prefixes: _freeze_by_attribute(model, prefixes[:1]),
        "sets them to zero": lambda model, prefixes: [
            (p.requires_grad_(False).zero_(), n)[1]
            for n, p in model.named_parameters()
            if n.startswith(tuple(prefixes))
        ],
        "names alone": lambda model, prefixes: [
            n for n, _ in model.named_parameters() if n.startswith(tuple(prefixes))
        ],
    },
    "safe_sqrt": {
        "a least number": lambda x: x.clamp(min=1e-12).sqrt(),
        "a root of a sum": lambda x: (x.relu() + 1e-12).sqrt(),
        "a power": lambda x: torch.where(x > 0, x**0.5, 0),
        "never steep": lambda x: torch.where(x > 1e-8, torch.where(x > 1e-8, x, 1).sqrt(), 0),
    },
    "RoundSTE": {
        "only where positive": _OnlyPositive,
        "writes into x": _InPlace,
        "whole numbers": _RoundsToInt,
        "a function": lambda x: x + (x.round() - x).detach(),
    },
    "per_sample_gradients": {
        "a loop": lambda loss, w, x, y: torch.stack(
            [_by_backward(lambda w, a=a, b=b: loss(w, a, b), w)[1] for a, b in zip(x, y, strict=True)]
        ),
        "a graph through w": lambda loss, w, x, y: vmap(grad(loss), in_dims=(None, 0, 0))(w, x, y),
        "switches w on": lambda loss, w, x, y: _samples_of_the_leaf(loss, w.requires_grad_(), x, y),
        "all pairs": lambda loss, w, x, y: vmap(vmap(grad(loss), (None, None, 0)), (None, 0, None))(w, x, y).sum(1),
        "the first target for all": lambda loss, w, x, y: vmap(grad(loss), (None, 0, None))(w, x, y[0]),
    },
    "hessian": {
        "torch.func": lambda f, x: jacrev(jacrev(f))(x.detach()),
        "functional": lambda f, x: torch.autograd.functional.hessian(f, x.detach()),
        "forward over backward": _forward_over_backward,
        "torch.func.hessian": lambda f, x: torch.func.hessian(f)(x.detach()),
        "one half": lambda f, x: _hessian_by_rows(f, x).triu(),
        "differences": lambda f, x: torch.stack(
            [
                (_by_backward(f, x + step)[1] - _by_backward(f, x - step)[1]) / 2e-3
                for step in 1e-3 * torch.eye(len(x), dtype=x.dtype)
            ]
        ),
    },
    "jvp": {
        "a small step": lambda f, x, v: (f(x.detach() + 1e-3 * v) - f(x.detach())) / 1e-3,
        "its length": lambda f, x, v: _jvp_by_rows(f, x, v).abs(),
    },
    "gradient_penalty": {
        "detached length": lambda critic, x: _penalty_by_func(critic, x).detach().requires_grad_(),
        "absolute distance": lambda critic, x: _penalty_by_func(critic, x).sqrt(),
        "a float": lambda critic, x: _penalty_by_func(critic, x).item(),
        "gradients thrown away": lambda critic, x: (critic.zero_grad(), _penalty_by_func(critic, x))[1],
        "backward, then cleared": _penalty_cleared_after_backward,
        "leaves gradients behind": lambda critic, x: (
            _penalty_by_func(critic, x).backward(),
            _penalty_by_func(critic, x),
        )[1],
    },
    "fit_ridge": {
        "tensors": lambda *a: (*map(torch.tensor, _ridge_by_hand(*a)[:2]), _ridge_by_hand(*a)[2]),
        "items at the end": _ridge_keeping(lambda losses: [loss.item() for loss in losses]),
        "a stack at the end": _ridge_keeping(lambda losses: torch.stack(losses).tolist() if losses else []),
        "pairs of a loss and its number": _ridge_keeping(
            lambda losses: [number for _, number in losses], lambda loss: (loss, loss.item())
        ),
        "losses in a tensor": _ridge_in_a_tensor,
        "one graph for all steps": _ridge_in_one_graph,
        "one more loss": lambda x, y, decay, lr, steps: (
            *_ridge_by_hand(x, y, decay, lr, steps)[:2],
            _ridge_by_hand(x, y, decay, lr, steps + 1)[2],
        ),
        "twice the decay": lambda x, y, decay, lr, steps: _ridge_by_hand(x, y, 2 * decay, lr, steps),
        "a list": lambda *a: list(_ridge_by_hand(*a)),
    },
    "Value": {
        "cleared at each backward": _Doubles,
        "no numbers on the left": _NoNumbers,
        "tensors": _OnTensors,
        "equal numbers are one": _EqualIsSame,
    },
}
