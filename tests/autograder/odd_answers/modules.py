"""Odd answers to chapter 4, right and wrong."""

import copy
import math

import numpy as np
import safetensors.torch
import torch
import torch.nn.functional as F
from torch import nn


class LinearFunctional(nn.Module):
    def __init__(self, in_features, out_features, bias=True, device=None):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(out_features, in_features, device=device))
        nn.init.kaiming_uniform_(self.weight, a=math.sqrt(5))
        if bias:
            self.bias = nn.Parameter(torch.empty(out_features))
            nn.init.uniform_(self.bias, -0.1, 0.1)
        else:
            self.register_parameter("bias", None)

    def forward(self, x):
        y = torch.einsum("...i,oi->...o", x, self.weight)
        if self.bias is not None:
            y += self.bias
        return y


class LinearRandn(nn.Module):
    def __init__(self, in_features, out_features, bias=True):
        nn.Module.__init__(self)
        bias = nn.Parameter(torch.randn(out_features)) if bias is True else None
        self.bias, self.weight = bias, nn.Parameter(torch.randn(out_features, in_features) * 0.01)

    def forward(self, input):
        out = torch.tensordot(input, self.weight, dims=([-1], [1]))
        return out if self.bias is None else torch.add(out, self.bias)


class LinearPlain(nn.Module):
    """No attribute `bias` where there is none, and F.linear."""

    def __init__(self, in_features, out_features, bias=True):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(out_features, in_features))
        if bias:
            self.bias = nn.Parameter(torch.zeros(out_features))

    def forward(self, x):
        return F.linear(x, self.weight, getattr(self, "bias", None))


class LinearTwoAxesOnly(LinearFunctional):
    def forward(self, x):
        return torch.mm(x, self.weight.T) + (0 if self.bias is None else self.bias)


class LinearConstant(LinearFunctional):
    def __init__(self, in_features, out_features, bias=True):
        super().__init__(in_features, out_features, bias)
        nn.init.constant_(self.weight, 0.1)


class LinearOneSeed(LinearFunctional):
    def __init__(self, in_features, out_features, bias=True):
        super().__init__(in_features, out_features, bias)
        generator = torch.Generator().manual_seed(0)
        self.weight = nn.Parameter(torch.randn(out_features, in_features, generator=generator))


class LinearOrthogonal(LinearFunctional):
    def __init__(self, in_features, out_features, bias=True):
        super().__init__(in_features, out_features, bias)
        nn.init.orthogonal_(self.weight)


class LinearOneNumberPerInput(LinearFunctional):
    def __init__(self, in_features, out_features, bias=True):
        super().__init__(in_features, out_features, bias)
        self.weight = nn.Parameter(torch.rand(in_features).expand(out_features, in_features).clone())


class LinearFloat16(LinearFunctional):
    def __init__(self, in_features, out_features, bias=True):
        super().__init__(in_features, out_features, bias)
        self.half()


class LinearNumPy(LinearFunctional):
    def __init__(self, in_features, out_features, bias=True):
        super().__init__(in_features, out_features, bias)
        drawn = np.random.default_rng().standard_normal((out_features, in_features))
        self.weight = nn.Parameter(torch.from_numpy(drawn).float())


class DropoutBernoulli(nn.Module):
    def __init__(self, p=0.5):
        super().__init__()
        self.keep = 1 - p

    def forward(self, x):
        if self.training and self.keep < 1:
            mask = torch.bernoulli(torch.full_like(x, self.keep))
            return mask * x * (1 / self.keep if self.keep else 0.0)
        return x


class DropoutFilled(nn.Module):
    def __init__(self, p: float):
        super().__init__()
        self.register_buffer("p", torch.tensor(p, dtype=torch.float64))

    def forward(self, x):
        p = self.p.item()
        if not self.training:
            return x.clone()
        drop = torch.empty(x.shape).uniform_() < p
        return x.masked_fill(drop, 0) / (1 - p if p < 1 else 1)


class DropoutPlain(nn.Module):
    def __init__(self, p):
        super().__init__()
        self.p = p

    def forward(self, x):
        return x * (torch.rand_like(x) > self.p) / (1 - self.p) if self.training else x


class DropoutRows(DropoutBernoulli):
    def forward(self, x):
        if not self.training or self.keep in (0, 1):
            return x * (self.keep if self.training else 1)
        return x * torch.bernoulli(torch.full((len(x), 1), self.keep).type_as(x)) / self.keep


class DropoutOnce(DropoutBernoulli):
    def forward(self, x):
        if not hasattr(self, "mask"):
            self.mask = torch.bernoulli(torch.full_like(x, self.keep))
        return x * self.mask * (1 / self.keep if self.keep else 0) if self.training else x


class DropoutExactShare(DropoutBernoulli):
    def forward(self, x):
        if not self.training or self.keep == 1:
            return x
        flat = torch.ones(x.numel(), dtype=x.dtype)
        flat[torch.rand(x.numel()).argsort()[: math.ceil(x.numel() * (1 - self.keep))]] = 0
        return x * flat.view(x.shape) / max(self.keep, 1e-9)


class DropoutRowsInPairs(DropoutBernoulli):
    def forward(self, x):
        if not self.training or self.keep in (0, 1):
            return x * (self.keep if self.training else 1)
        half = torch.bernoulli(torch.full_like(x[: (len(x) + 1) // 2], self.keep))
        return x * half.repeat_interleave(2, 0)[: len(x)] / self.keep


class DropoutMean(DropoutBernoulli):
    """Scales by what was in fact kept, not by 1 - p."""

    def forward(self, x):
        if not self.training:
            return x
        mask = (torch.rand_like(x) < self.keep).type_as(x)
        return x * mask / mask.mean().clamp(min=1e-6)


def _lenet(activation, pool, flatten=None, last=None):
    class Network(nn.Module):
        def __init__(self, num_classes=10):
            super().__init__()
            self.net = nn.Sequential(
                *(nn.Conv2d(1, 6, 5, padding=2), activation(), pool()),
                *(nn.Conv2d(6, 16, (5, 5)), activation(), pool()),
                flatten() if flatten else nn.Flatten(),
                *(nn.Linear(400, 120), activation(), nn.Linear(120, 84), activation(), nn.Linear(84, num_classes)),
                *([last] if last else []),
            )

        def forward(self, x):
            return self.net(x)

    return Network


class LeNetFunctional(nn.Module):
    """Padded by hand, pooled before the activation, reshaped with view, layers in an odd order of registration."""

    def __init__(self, num_classes: int = 10):
        super().__init__()
        self.out = nn.Linear(84, num_classes)
        self.fc = nn.ModuleList([nn.Linear(400, 120), nn.Linear(120, 84)])
        self.convs = nn.ModuleDict({"b": nn.Conv2d(6, 16, 5), "a": nn.Conv2d(1, 6, 5)})

    def forward(self, x):
        x = F.leaky_relu(F.max_pool2d(self.convs["a"](F.pad(x, (2, 2, 2, 2))), kernel_size=2))
        x = F.leaky_relu(F.adaptive_max_pool2d(self.convs["b"](x), 5))
        x = x.view(x.size(0), -1)
        for layer in self.fc:
            x = F.selu(layer(x))
        return self.out(x)


class LeNetLazy(_lenet(nn.ReLU, lambda: nn.MaxPool2d(2))):
    """The first linear layer reads its number of inputs off the first batch."""

    def __init__(self, num_classes=10):
        super().__init__(num_classes)
        self.net[7] = nn.LazyLinear(120)


class LeNetBare(nn.Module):
    """No layers at all, and the windows of the second pooling by hand."""

    def __init__(self, num_classes=10):
        super().__init__()
        shapes = [(6, 1, 5, 5), (16, 6, 5, 5), (120, 400), (84, 120), (num_classes, 84)]
        self.weights = nn.ParameterList(nn.init.kaiming_uniform_(torch.empty(shape)) for shape in shapes)
        self.biases = nn.ParameterList(torch.zeros(shape[0]) for shape in shapes)

    def forward(self, x):
        (a, b, c, d, e), (f, g, h, i, j) = self.weights, self.biases
        x = F.max_pool2d(F.conv2d(x, a, f, padding=2).relu(), 2)
        x = F.conv2d(x, b, g).relu().unflatten(3, (5, 2)).unflatten(2, (5, 2)).amax((3, 5)).flatten(1)
        x = torch.addmm(h, x, c.T).relu()
        return torch.addmm(j, torch.addmm(i, x, d.T).relu(), e.T)


class LeNetC5(nn.Module):
    """The step to 120 is a convolution."""

    def __init__(self, num_classes=10):
        super().__init__()
        self.c1, self.c3, self.c5 = nn.Conv2d(1, 6, 5, padding=2), nn.Conv2d(6, 16, 5), nn.Conv2d(16, 120, 5)
        self.f6, self.out = nn.Linear(120, 84), nn.Linear(84, num_classes)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.c1(x)), 2)
        x = F.max_pool2d(F.relu(self.c3(x)), 2)
        x = F.relu(self.c5(x)).flatten(1)
        return self.out(F.relu(self.f6(x)))


class LeNetC5Linear(LeNetC5):
    """No activation after that convolution."""

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.c1(x)), 2)
        x = F.max_pool2d(F.relu(self.c3(x)), 2)
        return self.out(F.relu(self.f6(self.c5(x).flatten(1))))


class LeNetStridesThenPools(LeNetBare):
    """The second pooling is a stride; the first one is right."""

    def forward(self, x):
        (a, b, c, d, e), (f, g, h, i, j) = self.weights, self.biases
        x = F.max_pool2d(F.conv2d(x, a, f, padding=2).relu(), 2)
        x = F.conv2d(x, b, g, stride=2).relu().flatten(1)
        x = torch.addmm(h, x, c.T).relu()
        return torch.addmm(j, torch.addmm(i, x, d.T).relu(), e.T)


class LeNetSubsamples(LeNetBare):
    """Takes every second place of the first map, the lower right one of each window."""

    def forward(self, x):
        (a, b, c, d, e), (f, g, h, i, j) = self.weights, self.biases
        x = F.conv2d(x, a, f, padding=2).relu()[:, :, 1::2, 1::2]
        x = F.max_pool2d(F.conv2d(x, b, g).relu(), 2).flatten(1)
        x = torch.addmm(h, x, c.T).relu()
        return torch.addmm(j, torch.addmm(i, x, d.T).relu(), e.T)


class LeNetReplicates(_lenet(nn.Tanh, lambda: nn.AvgPool2d(2))):
    def __init__(self, num_classes=10):
        super().__init__(num_classes)
        self.net[0] = nn.Conv2d(1, 6, 5, padding=2, padding_mode="replicate")


class LeNetStandardises(_lenet(nn.ReLU, lambda: nn.MaxPool2d(2))):
    def forward(self, x):
        return super().forward((x - 0.5) / 0.5)


class LeNetSqueezes(_lenet(nn.ReLU, lambda: nn.MaxPool2d(2))):
    def forward(self, x):
        return super().forward(x).squeeze()


class LeNetPadsSecond(nn.Module):
    """The padding of 2 on the second convolution, and pooling to the size that fits."""

    def __init__(self, num_classes=10):
        super().__init__()
        self.c1, self.c2 = nn.Conv2d(1, 6, 5), nn.Conv2d(6, 16, 5, padding=2)
        self.l1, self.l2, self.l3 = nn.Linear(400, 120), nn.Linear(120, 84), nn.Linear(84, num_classes)

    def forward(self, x):
        x = F.max_pool2d(self.c1(x).relu(), 2)
        x = F.adaptive_max_pool2d(self.c2(x).relu(), 5)
        return self.l3(self.l2(self.l1(x.flatten(1)).relu()).relu())


class LeNetWithDropout(_lenet(nn.ReLU, lambda: nn.MaxPool2d(2))):
    def forward(self, x):
        return F.dropout(self.net(x), 0.5, self.training)


class LeNetOneActivationShort(_lenet(nn.ReLU, lambda: nn.MaxPool2d(2))):
    def __init__(self, num_classes=10):
        super().__init__(num_classes)
        self.net[10] = nn.Identity()


class LeNetFirstActivationMissing(_lenet(nn.ReLU, lambda: nn.MaxPool2d(2))):
    def __init__(self, num_classes=10):
        super().__init__(num_classes)
        self.net[1] = nn.Identity()


class LeNetMixesImages(_lenet(nn.ReLU, lambda: nn.MaxPool2d(2))):
    def forward(self, x):
        return self.net(x) - self.net(x).mean(0)


class NormPlain(nn.Module):
    def __init__(self, num_features, eps=1e-5, momentum=0.1, affine=True):
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(num_features))
        self.weight = nn.Parameter(torch.ones(num_features))
        self.register_buffer("num_batches_tracked", torch.zeros((), dtype=torch.long))
        self.register_buffer("running_var", torch.ones(num_features))
        self.register_buffer("running_mean", torch.zeros(num_features))
        self.e, self.m = eps, momentum

    def forward(self, x):
        if not self.training:
            scale = self.weight * (self.running_var + self.e).rsqrt()
            return x * scale + (self.bias - self.running_mean * scale)
        n = x.shape[0]
        mu = x.sum(0) / n
        centred = x - mu
        sigma2 = centred.pow(2).mean(0)
        self.running_mean = (1 - self.m) * self.running_mean + self.m * mu.detach()
        self.running_var = (1 - self.m) * self.running_var + self.m * sigma2.detach() * n / (n - 1)
        self.num_batches_tracked = self.num_batches_tracked + 1
        return centred / (sigma2 + self.e) ** 0.5 * self.weight + self.bias


class NormData(NormPlain):
    def forward(self, x):
        if self.training:
            var, mean = torch.var_mean(x, 0, keepdim=True, unbiased=False)
            self.running_mean.data.mul_(1 - self.m).add_(mean.data[0], alpha=self.m)
            self.running_var.data.mul_(1 - self.m).add_(x.data.var(0), alpha=self.m)
            self.num_batches_tracked.add_(1)
        else:
            mean, var = self.running_mean, self.running_var
        return torch.addcmul(self.bias, self.weight, (x - mean) / torch.sqrt(var + self.e))


class NormUncounted(nn.Module):
    """Without num_batches_tracked."""

    def __init__(self, num_features, eps=1e-5, momentum=0.1):
        super().__init__()
        self.eps, self.momentum = eps, momentum
        self.weight, self.bias = nn.Parameter(torch.ones(num_features)), nn.Parameter(torch.zeros(num_features))
        self.register_buffer("running_mean", torch.zeros(num_features))
        self.register_buffer("running_var", torch.ones(num_features))

    def forward(self, x):
        mean, var = self.running_mean, self.running_var
        if self.training:
            mean, var = x.mean(0), x.var(0, unbiased=False)
            self.running_mean = (1 - self.momentum) * self.running_mean + self.momentum * mean.detach()
            self.running_var = (1 - self.momentum) * self.running_var + self.momentum * x.var(0).detach()
        return self.weight * (x - mean) / torch.sqrt(var + self.eps) + self.bias


class NormStopsCounting(NormUncounted):
    """The number is there, and stays."""

    def __init__(self, num_features, eps=1e-5, momentum=0.1):
        super().__init__(num_features, eps, momentum)
        self.register_buffer("num_batches_tracked", torch.tensor(0))


class NormRows(NormPlain):
    def forward(self, x):
        return (x - x.mean(1, keepdim=True)) / (x.var(1, keepdim=True, correction=0) + self.e).sqrt()


class NormStillInEvaluation(NormPlain):
    def forward(self, x):
        if self.training:
            return super().forward(x)
        return (x - self.running_mean) / (self.running_var + self.e).sqrt() * self.weight.detach() + self.bias


class NormWithoutAffine(NormPlain):
    def forward(self, x):
        return (super().forward(x) - self.bias) / self.weight


class BlockNames(nn.Module):
    """Functional ReLUs, the shortcut first, `None` for no shortcut, registered from last to first."""

    def __init__(self, c_in, c_out, stride=1, **ignored):
        super().__init__()
        self.project = None
        if stride > 1 or c_in != c_out:
            self.project_norm = nn.BatchNorm2d(c_out)
            self.project = nn.Conv2d(c_in, c_out, kernel_size=1, stride=stride, bias=False)
        self.z_norm, self.a_norm = nn.BatchNorm2d(c_out), nn.BatchNorm2d(c_out)
        self.z = nn.Conv2d(c_out, c_out, (3, 3), padding="same", bias=False)
        self.a = nn.Conv2d(c_in, c_out, 3, stride, 1, bias=False)

    def forward(self, x):
        identity = x if self.project is None else self.project_norm(self.project(x))
        out = F.relu(self.a_norm(self.a(x)), inplace=True)
        out = self.z_norm(self.z(out))
        out += identity
        return F.relu_(out)


class BlockTorch(nn.Module):
    def __init__(self, c_in, c_out, stride=1):
        super().__init__()
        from torchvision.models.resnet import BasicBlock

        down = None
        if stride != 1 or c_in != c_out:
            down = nn.Sequential(nn.Conv2d(c_in, c_out, 1, stride, bias=False), nn.BatchNorm2d(c_out))
        self.block = BasicBlock(c_in, c_out, stride, down)

    def forward(self, x):
        return self.block(x)


class BlockWithoutSecondNorm(BlockNames):
    def forward(self, x):
        identity = x if self.project is None else self.project_norm(self.project(x))
        return F.relu(self.z(F.relu(self.a_norm(self.a(x)))) + identity)


class BlockPreActivation(BlockNames):
    def forward(self, x):
        identity = x if self.project is None else self.project_norm(self.project(x))
        return self.z_norm(self.z(F.relu(self.a_norm(self.a(x))))) + F.relu(identity)


class BlockPooledShortcut(nn.Module):
    def __init__(self, c_in, c_out, stride=1):
        super().__init__()
        self.main = nn.Sequential(
            *(nn.Conv2d(c_in, c_out, 3, stride, 1, bias=False), nn.BatchNorm2d(c_out), nn.ReLU()),
            *(nn.Conv2d(c_out, c_out, 3, 1, 1, bias=False), nn.BatchNorm2d(c_out)),
        )
        self.short = nn.Sequential()
        if c_in != c_out:
            self.short = nn.Sequential(nn.Conv2d(c_in, c_out, 1, stride, bias=False), nn.BatchNorm2d(c_out))
        elif stride != 1:
            self.short = nn.AvgPool2d(1, stride)

    def forward(self, x):
        return (self.main(x) + self.short(x)).relu()


class MLPSequential(nn.Module):
    def __init__(self, mean, std, sizes):
        super().__init__()
        self.register_buffer("std", torch.as_tensor(std).clone())
        self.register_buffer("mean", torch.as_tensor(mean).clone())
        net = []
        for i in range(len(sizes) - 1):
            net += [nn.Linear(sizes[i], sizes[i + 1]), nn.ReLU(inplace=True)]
        self.net = nn.Sequential(*net[:-1])

    def forward(self, x):
        return self.net(x.sub(self.mean).div(self.std))


class MLPNamed(MLPSequential):
    def __init__(self, mean, std, sizes):
        super().__init__(mean, std, sizes)
        del self.net
        self.count = len(sizes) - 1
        for i in range(self.count):
            setattr(self, f"layer{i}", nn.Linear(sizes[i], sizes[i + 1]))

    def forward(self, x):
        x = (x.clone() - self.mean) / self.std
        for i in range(self.count):
            x = getattr(self, f"layer{i}")(x)
            x = torch.where(x > 0, x, 0) if i < self.count - 1 else x
        return x


class MLPBuffersNotSaved(MLPSequential):
    def __init__(self, mean, std, sizes):
        super().__init__(mean, std, sizes)
        self.register_buffer("mean", mean.clone(), persistent=False)


class MLPFrozenParameters(MLPSequential):
    def __init__(self, mean, std, sizes):
        super().__init__(mean, std, sizes)
        del self.mean, self.std
        self.mean = nn.Parameter(mean.clone(), requires_grad=False)
        self.std = nn.Parameter(std.clone(), requires_grad=False)


class MLPNoGrad(MLPSequential):
    def forward(self, x):
        with torch.no_grad():
            x = (x - self.mean) / self.std
        return self.net(x)


class MLPLastFirst(nn.Module):
    def __init__(self, mean, std, sizes):
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)
        self.last = nn.Linear(sizes[-2], sizes[-1])
        self.hidden = nn.ModuleList(nn.Linear(sizes[i], sizes[i + 1]) for i in range(len(sizes) - 2))

    def forward(self, x):
        x = (x - self.mean) / self.std
        for layer in self.hidden:
            x = layer(x).relu()
        return self.last(x)


class MLPPopsTheSizes(MLPSequential):
    def __init__(self, mean, std, sizes):
        super().__init__(mean, std, sizes)
        sizes.pop(0)


class MLPSoftmax(MLPSequential):
    def forward(self, x):
        return super().forward(x).softmax(1)


class Coder(nn.Module):
    """Decoder registered first, functional, reshaped by hand."""

    def __init__(self, image_shape, sizes):
        super().__init__()
        self.shape = list(image_shape)
        widths = [int(np.prod(image_shape)), *sizes]
        self.d = nn.ModuleList([nn.Linear(widths[i], widths[i - 1]) for i in range(len(sizes), 0, -1)])
        self.e = nn.ModuleList([nn.Linear(widths[i], widths[i + 1]) for i in range(len(sizes))])

    def encode(self, images):
        x = images.reshape(len(images), -1)
        for number, layer in enumerate(self.e):
            x = layer(F.relu(x) if number else x)
        return x

    def decode(self, codes):
        x = codes
        for number, layer in enumerate(self.d):
            x = layer(F.relu(x) if number else x)
        return torch.sigmoid(x).view(-1, *self.shape)

    def forward(self, images):
        return self.decode(self.encode(images))


class CoderTied(Coder):
    def decode(self, codes):
        x = codes
        for number, layer in enumerate(reversed(self.e)):
            x = F.linear(F.relu(x) if number else x, layer.weight.T)
        return torch.sigmoid(x).view(-1, *self.shape)


class CoderTanh(Coder):
    def decode(self, codes):
        return super().decode(codes).logit().tanh()


class CoderReverses(Coder):
    def __init__(self, image_shape, sizes):
        super().__init__(image_shape, sizes)
        sizes.reverse()
        sizes.append(0)


class CoderReads(Coder):
    """`forward` does not use the code, but what went in."""

    def forward(self, images):
        return (self.decode(self.encode(images)) + images) / 2


def capture_with_dict(model, names, x):
    layers = dict(model.named_modules())
    out, handles = {}, []
    try:
        for n in names:
            layer = layers[n]
            handles.append(layer.register_forward_hook(lambda m, i, o, n=n: out.__setitem__(n, o.detach().clone())))
        with torch.no_grad():
            model(x)
        return out
    finally:
        [h.remove() for h in handles]


def capture_with_stack(model, names, x):
    from contextlib import ExitStack

    found = {}

    class Keep:
        def __init__(self, name):
            self.name = name

        def __call__(self, module, args, output):
            found[self.name] = torch.clone(output).detach()

    with ExitStack() as stack:
        for name in names:
            stack.callback(model.get_submodule(name).register_forward_hook(Keep(name)).remove)
        model(x)
    return {name: found[name] for name in names}


def capture_on_a_copy(model, names, x):
    return capture_with_dict(copy.deepcopy(model), names, x)


def capture_walks(model, names, x):
    """Walks and filters, registers outside the try, keeps the tensors themselves."""
    out = {}
    handles = [
        module.register_forward_hook(lambda m, i, o, name=name: out.update({name: o}))
        for name, module in model.named_modules()
        if name in names
    ]
    try:
        model(x)
    finally:
        for handle in handles:
            handle.remove()
    return out


def capture_detached(model, names, x):
    """Detached, not copied."""
    return {name: tensor.detach() for name, tensor in capture_walks(model, names, x).items()}


def capture_clears_all(model, names, x):
    try:
        return capture_with_dict(model, names, x)
    finally:
        for module in model.modules():
            module._forward_hooks.clear()


def capture_swallows(model, names, x):
    try:
        return capture_with_dict(model, names, x)
    except Exception:
        return {}


def capture_runs_twice(model, names, x):
    model(x)
    return capture_with_dict(model, names, x)


def capture_replaces(model, names, x):
    """A hook that returns something replaces the output."""
    out = {}
    handles = []
    try:
        for n in names:
            handles.append(
                model.get_submodule(n).register_forward_hook(
                    lambda m, i, o, n=n: out.setdefault(n, o.detach().clone()) * 0
                )
            )
        model(x)
    finally:
        for h in handles:
            h.remove()
    return out


def capture_forward(model, names, x):
    out, handles = {}, []
    try:
        for n in names:
            handles += [
                model.get_submodule(n).register_forward_hook(lambda m, i, o, n=n: out.update({n: o.detach().clone()}))
            ]
        model.forward(x)
        return out
    finally:
        for h in handles:
            h.remove()


def capture_detaches(model, names, x):
    """A hook that gives the next layer a detached tensor."""
    out, handles = {}, []
    try:
        for n in names:

            def keep(m, i, o, n=n):
                out[n] = o.detach().clone()
                return o.detach()

            handles.append(model.get_submodule(n).register_forward_hook(keep))
        model(x)
        return out
    finally:
        for h in handles:
            h.remove()


class MyLinear(nn.Linear):
    pass


def head_of_a_subclass(model, name, num_classes):
    old = model.get_submodule(name)
    model.requires_grad_(False).set_submodule(
        name, MyLinear(old.in_features, num_classes, bias=old.bias is not None, dtype=old.weight.dtype)
    )
    return model


def head_one_number(model, name, num_classes):
    head_by_parent(model, name, num_classes)
    with torch.no_grad():
        model.get_submodule(name).weight.fill_(torch.rand(()).item())
    return model


def head_frees_its_siblings(model, name, num_classes):
    """Only the part of the model that does not hold the head is frozen."""
    head_by_parent(model, name, num_classes)
    parent, _, _ = name.rpartition(".")
    model.get_submodule(parent).requires_grad_(True)
    return model if parent else head_trains_body(model, name, num_classes)


def head_leaves_bare_parameters(model, name, num_classes):
    flags = [(p, p.requires_grad) for p in model._parameters.values()]
    head_by_parent(model, name, num_classes)
    for p, flag in flags:
        p.requires_grad_(flag)
    return model


def head_by_parent(model, name, num_classes):
    *way, last = name.split(".")
    parent = model
    for step in way:
        parent = getattr(parent, step)
    old = getattr(parent, last)
    for p in model.parameters():
        p.requires_grad = False
    new = nn.Linear(in_features=old.in_features, out_features=num_classes, bias=old.bias is not None)
    setattr(parent, last, new.to(old.weight))
    return model


def head_first_then_frozen(model, name, num_classes):
    old = model.get_submodule(name)
    new = nn.Linear(old.in_features, num_classes, old.bias is not None, dtype=old.weight.dtype)
    model.set_submodule(name, new)
    for key, p in model.named_parameters():
        p.requires_grad_(key.startswith(name + "."))
    return model


def head_keeps_old_rows(model, name, num_classes):
    old = model.get_submodule(name)
    head_by_parent(model, name, num_classes)
    new = model.get_submodule(name)
    n = min(num_classes, old.out_features)
    with torch.no_grad():
        new.weight[:n] = old.weight[:n]
    return model


def head_trains_body(model, name, num_classes):
    head_by_parent(model, name, num_classes)
    next(model.parameters()).requires_grad_(True)
    return model


def count_by_ids(module, trainable_only=False):
    seen = {id(p): p for m in module.modules() for p in m._parameters.values() if p is not None}
    return int(sum(math.prod(p.shape) for p in seen.values() if not trainable_only or p.requires_grad))


def count_equal_once(module, trainable_only=False):
    seen = []
    for p in module.parameters():
        if (p.requires_grad or not trainable_only) and not any(torch.equal(p, q) for q in seen):
            seen.append(p)
    return sum(p.numel() for p in seen)


def save_by_hand(model, path):
    kept, seen = {}, set()
    for name, tensor in model.state_dict().items():
        if tensor.data_ptr() not in seen:
            seen.add(tensor.data_ptr())
            kept[name] = tensor.clone(memory_format=torch.contiguous_format)
    with open(path, "wb") as file:
        file.write(safetensors.torch.save(kept, metadata={"format": "pt"}))


def save_both(model, path):
    state = {k: v.detach().clone().contiguous() for k, v in model.state_dict().items()}
    safetensors.torch.save_file(state, path)


def save_last_names(model, path):
    kept = {}
    for name, tensor in reversed(model.state_dict().items()):
        if not any(tensor.data_ptr() == other.data_ptr() for other in kept.values()):
            kept[name] = tensor
    safetensors.torch.save_file({name: tensor.contiguous() for name, tensor in kept.items()}, str(path))


def save_floats(model, path):
    safetensors.torch.save_model(copy.deepcopy(model).float(), path)


def save_makes_contiguous(model, path):
    for p in model.parameters():
        p.data = p.data.contiguous()
    safetensors.torch.save_model(model, path)


def save_all_buffers(model, path):
    kept = dict(model.named_parameters()) | dict(model.named_buffers())
    safetensors.torch.save_file({name: t.detach().contiguous() for name, t in kept.items()}, path)


def save_equal_once(model, path):
    kept = {}
    for name, tensor in model.state_dict().items():
        if not any(torch.equal(tensor, other) for other in kept.values()):
            kept[name] = tensor.contiguous()
    safetensors.torch.save_file(kept, path)


def load_copies(model, path):
    """A tensor of another shape is broadcast."""
    data, state = safetensors.torch.load_file(path), model.state_dict()
    held = {t.data_ptr() for n, t in state.items() if n in data}
    if set(data) - set(state) or any(t.data_ptr() not in held for t in state.values()):
        raise KeyError("names")
    for n, t in data.items():
        state[n].copy_(t)


def load_counts(model, path):
    """Only the numbers of elements are compared."""
    data, state = safetensors.torch.load_file(path), model.state_dict()
    held = {t.data_ptr() for n, t in state.items() if n in data}
    if set(data) - set(state) or any(t.data_ptr() not in held for t in state.values()):
        raise KeyError("names")
    for n, t in data.items():
        if t.numel() != state[n].numel():
            raise ValueError(n)
        state[n].copy_(t.view_as(state[n]))


def load_guesses_ties(model, path):
    """A missing name counts as tied where any tensor in the file's names has equal values."""
    data, state = safetensors.torch.load_file(path), model.state_dict()
    if set(data) - set(state):
        raise KeyError("left over")
    for n in set(state) - set(data):
        if not any(torch.equal(state[n], state[k]) for k in data):
            raise KeyError(n)
    model.load_state_dict(data, strict=False)


def load_by_hand(model, path):
    with safetensors.safe_open(path, framework="pt") as file:
        stored = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    state = model.state_dict()
    if left := stored.keys() - state.keys():
        raise KeyError(f"left over: {left}")
    filled = {state[name].data_ptr() for name in stored}
    if missing := [name for name in state if state[name].data_ptr() not in filled]:
        raise KeyError(f"missing: {missing}")
    for name, tensor in stored.items():
        if state[name].shape != tensor.shape:
            raise ValueError(name)
        state[name].copy_(tensor)


def load_and_return(model, path):
    missing, unexpected = safetensors.torch.load_model(model, str(path), strict=False)
    assert not missing and not unexpected
    return model


def load_plain(model, path):
    model.load_state_dict(safetensors.torch.load_file(path), strict=True)


RIGHT = {
    "conv_size": {
        "counted": lambda size, kernel, stride=1, padding=0: len(range(0, size + 2 * padding - kernel + 1, stride)),
        "floor": lambda size, kernel, stride=1, padding=0: math.floor((size + 2 * padding - kernel) / stride + 1),
        "asked": lambda size, kernel, stride=1, padding=0: (
            F.pad(torch.zeros(size), (padding, padding)).unfold(0, kernel, stride).shape[0]
        ),
    },
    "count_parameters": {
        "by id": count_by_ids,
        "loop": lambda module, trainable_only=False: sum(
            len(p.flatten()) for _, p in module.named_parameters() if (p.requires_grad if trainable_only else True)
        ),
    },
    "Linear": {
        "functional": LinearFunctional,
        "randn": LinearRandn,
        "orthogonal": LinearOrthogonal,
        "plain": LinearPlain,
    },
    "Dropout": {"bernoulli": DropoutBernoulli, "masked_fill": DropoutFilled, "plain": DropoutPlain},
    "capture": {
        "dict": capture_with_dict,
        "stack": capture_with_stack,
        "on a copy": capture_on_a_copy,
        "walks": capture_walks,
        "detached": capture_detached,
    },
    "new_head": {
        "by its parent": head_by_parent,
        "flags last": head_first_then_frozen,
        "a subclass of nn.Linear": head_of_a_subclass,
    },
    "LeNet5": {
        "functional": LeNetFunctional,
        "LazyLinear": LeNetLazy,
        "bare parameters": LeNetBare,
        "C5 as a convolution": LeNetC5,
        **{
            f"{activation.__name__}, {pool.__name__}": _lenet(activation, lambda pool=pool: pool(2))
            for activation in (nn.ReLU, nn.Tanh, nn.Sigmoid, nn.GELU, nn.ELU, nn.SELU, nn.LeakyReLU, nn.SiLU)
            for pool in (nn.MaxPool2d, nn.AvgPool2d)
        },
        "softplus": _lenet(nn.Softplus, lambda: nn.MaxPool2d(2)),
        "mish": _lenet(nn.Mish, lambda: nn.AvgPool2d(2)),
        "softsign": _lenet(nn.Softsign, lambda: nn.AvgPool2d(2)),
        "hard tanh": _lenet(nn.Hardtanh, lambda: nn.MaxPool2d(2)),
        "ReLU6": _lenet(nn.ReLU6, lambda: nn.AvgPool2d(2)),
        "hard swish": _lenet(nn.Hardswish, lambda: nn.MaxPool2d(2)),
        "in-place ReLU": _lenet(lambda: nn.ReLU(inplace=True), lambda: nn.MaxPool2d(2)),
        "LP pooling": _lenet(nn.ReLU, lambda: nn.LPPool2d(2, 2)),
    },
    "BatchNorm1d": {
        "plain": NormPlain,
        "in place": NormData,
        "uncounted": NormUncounted,
        "stops counting": NormStopsCounting,
    },
    "save_safely": {
        "by hand": save_by_hand,
        "the last of tied names": save_last_names,
        "both names": save_both,
        "makes the model contiguous": save_makes_contiguous,
        "save_model": safetensors.torch.save_model,
    },
    "load_safely": {
        "by hand": load_by_hand,
        "asserts": load_and_return,
        "load_state_dict": load_plain,
        "load_model": lambda model, path: safetensors.torch.load_model(model, path),
    },
    "ResidualBlock": {"names": BlockNames, "torchvision's": BlockTorch},
    "ScaledMLP": {"Sequential": MLPSequential, "attributes": MLPNamed, "frozen parameters": MLPFrozenParameters},
    "Autoencoder": {"functional": Coder},
}

WRONG = {
    "conv_size": {
        "a float": lambda size, kernel, stride=1, padding=0: float((size + 2 * padding - kernel) // stride + 1),
        "a tensor": lambda size, kernel, stride=1, padding=0: torch.tensor((size + 2 * padding - kernel) // stride + 1),
        "ignores the stride": lambda size, kernel, stride=1, padding=0: size + 2 * padding - kernel + 1,
    },
    "count_parameters": {
        "remembers what it has counted": """
def count_parameters(module, trainable_only=False, seen=set()):
    new = [p for p in module.parameters() if p not in seen]
    seen.update(new)
    return sum(p.numel() for p in new if p.requires_grad or not trainable_only)
""",
        "freezes the module": """
def count_parameters(module, trainable_only=False):
    number = _count_parameters(module, trainable_only)
    module.requires_grad_(False)
    return number
""",
        "weights only": lambda module, trainable_only=False: sum(
            p.numel()
            for n, p in module.named_parameters()
            if n.endswith("weight") and (p.requires_grad or not trainable_only)
        ),
        "a tensor": lambda module, trainable_only=False: sum(
            torch.tensor(p.numel()) for p in module.parameters() if p.requires_grad or not trainable_only
        ),
        "bytes": lambda module, trainable_only=False: 4 * count_by_ids(module, trainable_only),
        "equal ones once": count_equal_once,
        "frozen only": lambda module, trainable_only=False: sum(
            p.numel() for p in module.parameters() if p.requires_grad != trainable_only
        ),
    },
    "Linear": {
        "torch": nn.Linear,
        "two axes only": LinearTwoAxesOnly,
        "constant": LinearConstant,
        "one seed for all": LinearOneSeed,
        "one number per input": LinearOneNumberPerInput,
        "float16": LinearFloat16,
        "drawn by NumPy": LinearNumPy,
    },
    "Dropout": {
        "rows": DropoutRows,
        "once": DropoutOnce,
        "by the mean of the mask": DropoutMean,
        "columns": nn.Dropout1d,
        "an exact share": DropoutExactShare,
        "rows in pairs": DropoutRowsInPairs,
        "identity": lambda p: nn.Identity(),
    },
    "capture": {
        "clears all hooks": capture_clears_all,
        "swallows errors": capture_swallows,
        "runs twice": capture_runs_twice,
        "replaces the output": capture_replaces,
        "detaches the output": capture_detaches,
        "calls forward": capture_forward,
    },
    "new_head": {
        "old rows": head_keeps_old_rows,
        "trains a body": head_trains_body,
        "one number": head_one_number,
        "trains siblings": head_frees_its_siblings,
        "trains a bare parameter": head_leaves_bare_parameters,
    },
    "LeNet5": {
        "padding on the second": LeNetPadsSecond,
        "a stride as second pooling": LeNetStridesThenPools,
        "a slice as first pooling": LeNetSubsamples,
        "wide windows, mean": _lenet(nn.ReLU, lambda: nn.AvgPool2d(3, 2, 1)),
        "wide windows, maximum": _lenet(nn.ReLU, lambda: nn.MaxPool2d(3, 2, 1)),
        "replicates the edge": LeNetReplicates,
        "standardises": LeNetStandardises,
        "squeezes": LeNetSqueezes,
        "dropout": LeNetWithDropout,
        "no activation after fc2": LeNetOneActivationShort,
        "no activation after conv1": LeNetFirstActivationMissing,
        "mixes images": LeNetMixesImages,
        "no activation after C5": LeNetC5Linear,
        "sigmoid at the end": _lenet(nn.ReLU, lambda: nn.MaxPool2d(2), last=nn.Sigmoid()),
        "tanh at the end": _lenet(nn.ReLU, lambda: nn.MaxPool2d(2), last=nn.Tanh()),
        "linear": _lenet(nn.Identity, lambda: nn.AvgPool2d(2)),
    },
    "BatchNorm1d": {
        "rows": NormRows,
        "without weight and bias": NormWithoutAffine,
        "detached weight in evaluation": NormStillInEvaluation,
        "torch's": nn.BatchNorm1d,
    },
    "save_safely": {
        "floats": save_floats,
        "all buffers": save_all_buffers,
        "equal ones once": save_equal_once,
    },
    "load_safely": {
        "wants all buffers": """
def load_safely(model, path):
    if {name for name, _ in model.named_buffers()} - load_file(path).keys():
        raise KeyError("buffers")
    _load_safely(model, path)
""",
        "broadcasts": load_copies,
        "counts elements": load_counts,
        "guesses ties": load_guesses_ties,
    },
    "ResidualBlock": {
        "no second norm": BlockWithoutSecondNorm,
        "ReLU on the shortcut": BlockPreActivation,
        "pooled shortcut": BlockPooledShortcut,
    },
    "ScaledMLP": {
        "not in the state": MLPBuffersNotSaved,
        "softmax": MLPSoftmax,
        "no gradient of x": MLPNoGrad,
        "the last layer first": MLPLastFirst,
        "pops the sizes": MLPPopsTheSizes,
    },
    "Autoencoder": {
        "tied": CoderTied,
        "tanh": CoderTanh,
        "not through the code": CoderReads,
        "reverses the caller's list": CoderReverses,
    },
}
