"""Odd answers to chapter 5, as text: a wrong one may call the solution, as its name with an underscore before it."""

RIGHT = {
    "bce_with_logits": {
        "a graph for the logits alone": """
class Loss(torch.autograd.Function):
    @staticmethod
    def forward(ctx, z, t):
        ctx.save_for_backward(z, t)
        return (F.softplus(z) - t * z).mean()
    @staticmethod
    def backward(ctx, gradient):
        z, t = ctx.saved_tensors
        return gradient * (z.sigmoid() - t) / len(z), None
def bce_with_logits(logits, targets):
    return Loss.apply(logits, targets)
""",
        "detached targets": """
def bce_with_logits(logits, targets):
    return (F.softplus(logits) - targets.detach() * logits).mean()
""",
        "softplus": "def bce_with_logits(logits, targets):\n    return (F.softplus(logits) - targets * logits).mean()",
        "two softplus": """
def bce_with_logits(logits, targets):
    losses = targets * F.softplus(-logits) + (1 - targets) * F.softplus(logits)
    return losses.sum() / len(losses)
""",
        "logsigmoid": """
def bce_with_logits(logits, targets):
    return -(targets * F.logsigmoid(logits) + (1 - targets) * F.logsigmoid(-logits)).mean()
""",
        "clamp and abs": """
def bce_with_logits(logits, targets):
    return (logits.clamp(min=0) - logits * targets + torch.log1p(torch.exp(-logits.abs()))).mean()
""",
    },
    "warmup_cosine": {
        "by position, three returns": """
def warmup_cosine(s, w, t):
    if s >= t:
        return 0
    if s < w:
        return s / w
    return (1 + math.cos(math.pi * (s - w) / (t - w))) / 2
""",
        "NumPy": """
def warmup_cosine(step, warmup, total):
    if step < warmup:
        return step / warmup
    return 0.5 + 0.5 * np.cos(np.pi * np.clip((step - warmup) / (total - warmup), 0, 1))
""",
    },
    "EarlyStopping": {
        "a list of losses": """
class EarlyStopping:
    def __init__(self, patience, min_delta=0.0):
        self.best, self.patience, self.delta, self.bad = float("inf"), patience, min_delta, []
    def step(self, loss):
        if self.best - loss > self.delta:
            self.best, self.bad = loss, []
        else:
            self.bad.append(loss)
        return len(self.bad) >= self.patience
""",
        "a dataclass": """
from dataclasses import dataclass
@dataclass
class EarlyStopping:
    patience: int
    min_delta: float = 0.0
    best: float = math.inf
    left: int = None
    def step(self, loss):
        if self.left is None:
            self.left = self.patience
        if not math.isnan(loss) and self.best > loss + self.min_delta:
            self.best, self.left = float(loss), self.patience
        else:
            self.left -= 1
        return self.left <= 0
""",
    },
    "cross_entropy": {
        "logsumexp": """
def cross_entropy(logits, labels):
    return (logits.logsumexp(1) - logits[torch.arange(len(labels)), labels]).mean()
""",
        "gather, amax, detached": """
def cross_entropy(logits, labels):
    z = logits - logits.detach().amax(1, keepdim=True)
    log_p = z - torch.log(torch.exp(z).sum(1, keepdim=True))
    return -log_p.gather(1, labels.unsqueeze(1)).squeeze(1).mean()
""",
        "one-hot": """
def cross_entropy(logits, labels):
    z = logits - logits.max(-1, keepdim=True)[0]
    chosen = (z * F.one_hot(labels, logits.shape[1])).sum(1)
    return (z.exp().sum(1).log() - chosen).sum() / logits.shape[0]
""",
        "row by row": """
def cross_entropy(logits, labels):
    losses = []
    for row, label in zip(logits, labels):
        top = row.max()
        losses.append(torch.log(torch.sum(torch.exp(row - top))) + top - row[label])
    return torch.stack(losses).mean()
""",
    },
    "adamw_step": {
        "in place on copies, a list": """
def adamw_step(w, g, m, v, t, lr, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01):
    w, m, v = w.clone(), m.clone(), v.clone()
    w.mul_(1 - lr * weight_decay)
    m.lerp_(g, 1 - betas[0])
    v.mul_(betas[1]).addcmul_(g, g, value=1 - betas[1])
    denominator = (v.sqrt() / math.sqrt(1 - betas[1] ** t)).add_(eps)
    w.addcdiv_(m, denominator, value=-lr / (1 - betas[0] ** t))
    return [w, m, v]
""",
    },
    "parameter_groups": {
        "one group per parameter": """
def parameter_groups(model, weight_decay):
    return [
        {"params": [p], "weight_decay": weight_decay if p.dim() >= 2 else 0}
        for p in model.parameters()
        if p.requires_grad
    ]
""",
        "generators and tuples": """
def parameter_groups(model, weight_decay):
    return [
        {"params": (p for p in model.parameters() if p.requires_grad and p.dim() > 1), "weight_decay": weight_decay},
        {"params": tuple(p for p in model.parameters() if p.requires_grad and p.dim() < 2), "weight_decay": 0.0},
    ]
""",
        "a loop over names": """
def parameter_groups(model, weight_decay):
    decay, rest = [], []
    for name, p in model.named_parameters():
        if p.requires_grad:
            (decay if len(p.shape) > 1 else rest).append(p)
    return [{"params": rest, "weight_decay": 0.0}, {"params": decay, "weight_decay": weight_decay}]
""",
    },
    "train_epoch": {
        "zeroed after the step": """
def train_epoch(model, loader, loss_fn, optimizer, max_norm=None):
    model.train()
    total = n = 0
    for x, y in loader:
        loss = loss_fn(model(x), y)
        loss.backward()
        if max_norm is not None:
            torch.nn.utils.clip_grad_norm_(model.parameters(), max_norm)
        optimizer.step()
        optimizer.zero_grad()
        total += loss.item() * x.size(0)
        n += x.size(0)
    return total / n
""",
        "model.zero_grad, a list of sums": """
def train_epoch(model, loader, loss_fn, optimizer, max_norm=None):
    model = model.train()
    sums, counts = [], []
    for step, batch in enumerate(loader):
        x, y = batch
        model.zero_grad()
        loss = loss_fn(model(x), y)
        loss.backward()
        if max_norm:
            torch.nn.utils.clip_grad_norm_(list(model.parameters()), max_norm=max_norm)
        optimizer.step()
        sums.append(float(loss.detach()) * x.shape[0])
        counts.append(x.shape[0])
    return sum(sums) / sum(counts)
""",
        "clipped by hand": """
def train_epoch(model, loader, loss_fn, optimizer, max_norm=None):
    model.train(True)
    total, n = torch.zeros(()), 0
    for x, y in loader:
        optimizer.zero_grad(set_to_none=False)
        loss = loss_fn(model(x), y)
        loss.backward()
        if max_norm is not None:
            norm = torch.cat([p.grad.flatten() for p in model.parameters()]).norm().item()
            for p in model.parameters():
                p.grad *= min(1.0, max_norm / (norm + 1e-6))
        optimizer.step()
        with torch.no_grad():
            total += loss * len(x)
            n += len(x)
    return (total / n).item()
""",
    },
    "evaluate": {
        "the mode of the whole model alone": """
def evaluate(model, loader, loss_fn):
    was_training = model.training
    model.eval()
    try:
        with torch.inference_mode():
            logits, labels = zip(*[(model(x), y) for x, y in loader])
            logits, labels = torch.cat(logits), torch.cat(labels)
            return loss_fn(logits, labels).item(), (logits.argmax(1) == labels).float().mean().item()
    finally:
        model.train(was_training)
""",
        "the mode of each part": """
def evaluate(model, loader, loss_fn):
    modes = [(module, module.training) for module in model.modules()]
    result = _evaluate(model, loader, loss_fn)
    for module, training in modes:
        module.training = training
    return result
""",
        "inference mode, finally, a list": """
def evaluate(model, loader, loss_fn):
    modes = {name: module.training for name, module in model.named_modules()}
    try:
        model.train(False)
        loss = hits = n = 0
        with torch.inference_mode():
            for x, y in loader:
                z = model(x)
                loss += float(loss_fn(z, y)) * y.numel()
                hits += int(z.max(1).indices.eq(y).sum())
                n += y.numel()
        return [loss / n, hits / n]
    finally:
        for name, module in model.named_modules():
            module.training = modes[name]
""",
        "a decorator, and a copy of the model": """
@torch.no_grad()
def evaluate(model, loader, loss_fn):
    twin = copy.deepcopy(model).eval()
    outputs = [(twin(x), y) for x, y in loader]
    n = sum(len(y) for _, y in outputs)
    loss = sum(loss_fn(z, y).item() * len(y) for z, y in outputs) / n
    return loss, sum((z.argmax(-1) == y).float().sum().item() for z, y in outputs) / n
""",
    },
    "train_accumulated": {
        "inputs by name": """
def train_accumulated(model, batches, loss_fn, optimizer):
    n = sum(len(y) for _, y in batches)
    optimizer.zero_grad()
    total = 0.0
    for x, y in batches:
        loss = loss_fn(model(input=x), y) * len(y) / n
        loss.backward()
        total += loss.item()
    optimizer.step()
    return total
""",
        "sets train mode": """
def train_accumulated(model, batches, loss_fn, optimizer):
    model.train()
    return _train_accumulated(model, batches, loss_fn, optimizer)
""",
        "sets eval mode": """
def train_accumulated(model, batches, loss_fn, optimizer):
    return _train_accumulated(model.eval(), batches, loss_fn, optimizer)
""",
        "gradients divided at the end": """
def train_accumulated(model, batches, loss_fn, optimizer):
    model.zero_grad()
    total, n = 0.0, 0
    for x, y in batches:
        loss = loss_fn(model(x), y) * len(x)
        loss.backward()
        total, n = total + loss.item(), n + len(x)
    for p in model.parameters():
        p.grad.div_(n)
    optimizer.step()
    return total / n
""",
        "one sum of the losses": """
def train_accumulated(model, batches, loss_fn, optimizer):
    n = sum(x.shape[0] for x, _ in batches)
    loss = sum(loss_fn(model(x), y) * x.shape[0] / n for x, y in batches)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item()
""",
    },
    "FastText": {
        "sum / lengths, with padding_idx": """
class FastText(nn.Module):
    def __init__(self, vocabulary_size, dim, num_classes, padding_idx=0):
        super().__init__()
        self.embedding = nn.Embedding(vocabulary_size, dim, padding_idx=padding_idx)
        self.linear = nn.Linear(dim, num_classes)
        self.padding_idx = padding_idx
    def forward(self, ids):
        return self.linear(self.embedding(ids).sum(1) / (ids != self.padding_idx).sum(1, keepdim=True).clamp(min=1))
""",
        "clears the row, padding_idx given": """
class FastText(nn.Module):
    def __init__(self, vocabulary_size, dim, num_classes, padding_idx=0):
        super().__init__()
        self.embedding = nn.Embedding(vocabulary_size, dim, padding_idx=padding_idx)
        self.linear = nn.Linear(dim, num_classes)
        self.p = padding_idx
    def forward(self, ids):
        with torch.no_grad():
            self.embedding.weight[self.p] = 0
        return self.linear(self.embedding(ids).sum(1) / (ids != self.p).sum(1, keepdim=True).clamp(min=1))
""",
        "a mask, a linear layer called fc": """
class FastText(nn.Module):
    def __init__(self, vocabulary_size, dim, num_classes, padding_idx=0):
        super().__init__()
        self.emb = nn.Embedding(vocabulary_size, dim, padding_idx=padding_idx)
        self.fc = nn.Linear(dim, num_classes)
        self.padding_idx = padding_idx
    def forward(self, ids):
        mask = (ids != self.padding_idx).unsqueeze(-1).float()
        return self.fc((self.emb(ids) * mask).sum(1) / mask.sum(1).clamp(min=1))
""",
        "EmbeddingBag without a bias": """
class FastText(nn.Module):
    def __init__(self, vocabulary_size, dim, num_classes, padding_idx=0):
        super().__init__()
        self.bag = nn.EmbeddingBag(vocabulary_size, dim, mode="mean", padding_idx=padding_idx)
        self.out = nn.Linear(dim, num_classes, bias=False)
    def forward(self, ids):
        return self.out(self.bag(ids))
""",
        "einsum with a plain embedding": """
class FastText(nn.Module):
    def __init__(self, vocabulary_size, dim, num_classes, padding_idx=0):
        super().__init__()
        self.table, self.head, self.pad = nn.Embedding(vocabulary_size, dim), nn.Linear(dim, num_classes), padding_idx
    def forward(self, ids):
        mask = (ids != self.pad).float()
        mask = mask / mask.sum(1, keepdim=True).clamp_min(1)
        return self.head(torch.einsum("bt,btd->bd", mask, self.table(ids)))
""",
        "raw parameters and a loop": """
class FastText(nn.Module):
    def __init__(self, vocabulary_size, dim, num_classes, padding_idx=0):
        super().__init__()
        self.E = nn.Parameter(torch.randn(vocabulary_size, dim))
        self.W = nn.Parameter(torch.randn(dim, num_classes))
        self.b = nn.Parameter(torch.zeros(1, num_classes))
        self.pad = padding_idx
    def forward(self, ids):
        means = []
        for row in ids:
            words = row[row != self.pad]
            means.append(self.E[words].mean(0) if len(words) else torch.zeros(self.E.shape[1]))
        return torch.stack(means) @ self.W + self.b
""",
        "EmbeddingBag": """
class FastText(nn.Module):
    def __init__(self, vocabulary_size, dim, num_classes, padding_idx=0):
        super().__init__()
        self.embedding = nn.EmbeddingBag(vocabulary_size, dim, mode="mean", padding_idx=padding_idx)
        self.linear = nn.Linear(dim, num_classes)
    def forward(self, ids):
        return self.linear(self.embedding(ids))
""",
        "a mask and einsum": """
class FastText(nn.Module):
    def __init__(self, vocab, dim, classes, pad=0):
        super().__init__()
        self.linear = nn.Linear(dim, classes)
        self.embedding = nn.Embedding(vocab, dim, padding_idx=pad)
        self.pad = pad
    def forward(self, x):
        mask = x.ne(self.pad).float()
        summed = torch.einsum("btd,bt->bd", self.embedding(x), mask)
        return self.linear(summed / torch.maximum(mask.sum(1, keepdim=True), torch.ones(1)))
""",
    },
    "mend_training": {
        "by train_epoch": """
def mend_training(model, loader, epochs, lr):
    sgd = torch.optim.SGD(model.train().parameters(), lr, 0.9)
    return [train_epoch(model, loader, nn.CrossEntropyLoss(), sgd) for _ in range(epochs)]
""",
    },
    "fit_best": {
        "lists for pairs": """
def fit_best(model, train_loader, val_loader, loss_fn, optimizer, epochs, patience):
    best, bad, history, state = math.inf, 0, [], copy.deepcopy(model.state_dict())
    for _ in range(epochs):
        train_loss = train_epoch(model, train_loader, loss_fn, optimizer)
        val_loss, _ = evaluate(model, val_loader, loss_fn)
        history.append([train_loss, val_loss])
        if val_loss < best:
            best, bad, state = val_loss, 0, copy.deepcopy(model.state_dict())
        else:
            bad += 1
            if bad >= patience:
                break
    model.load_state_dict(state)
    return history
""",
        "clones, written out": """
def fit_best(model, train_loader, val_loader, loss_fn, optimizer, epochs, patience):
    best, state, bad, history = float("inf"), {k: v.clone() for k, v in model.state_dict().items()}, 0, []
    for epoch in range(epochs):
        train_loss = train_epoch(model, train_loader, loss_fn, optimizer)
        model.eval()
        with torch.no_grad():
            pairs = [(loss_fn(model(x), y).item(), len(y)) for x, y in val_loader]
        val_loss = sum(a * b for a, b in pairs) / sum(b for _, b in pairs)
        model.train()
        history.append((train_loss, val_loss))
        bad += 1
        if val_loss < best:
            best, bad = val_loss, 0
            state = {k: v.clone() for k, v in model.state_dict().items()}
        if bad == patience:
            break
    model.load_state_dict(state)
    return history
""",
    },
}

WRONG = {
    "bce_with_logits": {
        "for many labels": """
def bce_with_logits(logits, targets):
    return F.multilabel_soft_margin_loss(logits, targets)
""",
        "a sum": """
def bce_with_logits(logits, targets):
    return (F.softplus(logits) - targets * logits).sum()
""",
        "the sigmoid's logarithm": """
def bce_with_logits(logits, targets):
    p = logits.sigmoid()
    return -torch.where(targets > 0.5, p, 1 - p).log().mean()
""",
        "softplus, straight from 5 on": """
def bce_with_logits(logits, targets):
    return (F.softplus(logits, threshold=5) - targets * logits).mean()
""",
        "no gradient": """
def bce_with_logits(logits, targets):
    return _bce_with_logits(logits.detach(), targets)
""",
    },
    "EarlyStopping": {
        "the first infinity is better": """
class EarlyStopping(_EarlyStopping):
    def step(self, loss):
        if loss == self.best == math.inf:
            self.waited = -1
        return super().step(loss)
""",
        "equal is better": """
class EarlyStopping(_EarlyStopping):
    def step(self, loss):
        if loss == self.best:
            self.waited = -1
        return super().step(loss)
""",
        "an improvement of exactly min_delta counts": """
class EarlyStopping:
    def __init__(self, patience, min_delta=0.0):
        self.patience, self.min_delta, self.best, self.waited = patience, min_delta, math.inf, 0
    def step(self, loss):
        if loss <= self.best - self.min_delta:
            self.best, self.waited = loss, 0
        else:
            self.waited += 1
        return self.waited >= self.patience
""",
        "state on the class": """
class EarlyStopping:
    def __init__(self, patience, min_delta=0.0):
        cls = type(self)
        self.patience, self.min_delta, cls.best, cls.waited = patience, min_delta, math.inf, 0
    def step(self, loss):
        cls = type(self)
        if loss < cls.best - self.min_delta:
            cls.best, cls.waited = loss, 0
        else:
            cls.waited += 1
        return cls.waited >= self.patience
""",
        "the count on the class": """
class EarlyStopping:
    def __init__(self, patience, min_delta=0.0):
        self.patience, self.min_delta, self.best, type(self).waited = patience, min_delta, math.inf, 0
    def step(self, loss):
        if loss < self.best - self.min_delta:
            self.best, type(self).waited = loss, 0
        else:
            type(self).waited += 1
        return self.waited >= self.patience
""",
    },
    "adamw_step": {
        "weights changed in place": """
def adamw_step(w, g, m, v, t, lr, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01):
    new, m, v = _adamw_step(w, g, m, v, t, lr, betas, eps, weight_decay)
    return w.copy_(new), m, v
""",
        "the default betas": """
def adamw_step(w, g, m, v, t, lr, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01):
    return _adamw_step(w, g, m, v, t, lr, (0.9, 0.999), eps, weight_decay)
""",
        "AdamW with its state set": """
def adamw_step(w, g, m, v, t, lr, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01):
    p = nn.Parameter(w.clone())
    p.grad = g.clone()
    opt = torch.optim.AdamW([p], lr=lr, betas=betas, eps=eps, weight_decay=weight_decay)
    opt.state[p] = {"step": torch.tensor(float(t - 1)), "exp_avg": m.clone(), "exp_avg_sq": v.clone()}
    opt.step()
    return p.detach().clone(), opt.state[p]["exp_avg"], opt.state[p]["exp_avg_sq"]
""",
        "torch.optim's function": """
def adamw_step(w, g, m, v, t, lr, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01):
    w, m, v = w.clone(), m.clone(), v.clone()
    from torch.optim.adamw import adamw
    adamw(
        [w], [g], [m], [v], [], [torch.tensor(float(t - 1))], amsgrad=False, beta1=betas[0], beta2=betas[1], lr=lr,
        weight_decay=weight_decay, eps=eps, maximize=False,
    )
    return w, m, v
""",
    },
    "parameter_groups": {
        "no decay named for biases": """
def parameter_groups(model, weight_decay):
    trained = [p for p in model.parameters() if p.requires_grad]
    return [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in trained if p.ndim < 2]},
    ]
""",
        "one group": """
def parameter_groups(model, weight_decay):
    return [{"params": [p for p in model.parameters() if p.requires_grad], "weight_decay": weight_decay}]
""",
        "by the name": """
def parameter_groups(model, weight_decay):
    named = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
    return [
        {"params": [p for n, p in named if "weight" in n], "weight_decay": weight_decay},
        {"params": [p for n, p in named if "weight" not in n], "weight_decay": 0.0},
    ]
""",
    },
    "mend_training": {
        "one epoch less": """
def mend_training(model, loader, epochs, lr):
    return _mend_training(model, loader, epochs - 1, lr)
""",
        "another learning rate": """
def mend_training(model, loader, epochs, lr):
    return _mend_training(model, loader, epochs, lr / 2)
""",
        "train mode set in the loop": """
def mend_training(model, loader, epochs, lr):
    sgd = torch.optim.SGD(model.parameters(), lr, 0.9)
    return [train_epoch(model, loader, nn.CrossEntropyLoss(), sgd) for _ in range(epochs)]
""",
    },
    "cross_entropy": {
        "PyTorch's": "def cross_entropy(logits, labels):\n    return F.cross_entropy(logits, labels)",
        "log_softmax": """
def cross_entropy(logits, labels):
    return -logits.log_softmax(1)[torch.arange(len(labels)), labels].mean()
""",
        "clamped logits": """
def cross_entropy(logits, labels):
    e = logits.clamp(-80, 80).exp()
    return -(e[torch.arange(len(labels)), labels] / e.sum(1)).log().mean()
""",
    },
    "warmup_cosine": {
        "a tensor": """
def warmup_cosine(step, warmup, total):
    if step < warmup:
        return torch.tensor(step / warmup)
    return 0.5 * (1 + torch.cos(torch.tensor(math.pi * min(1, (step - warmup) / (total - warmup)))))
""",
    },
    "train_epoch": {
        "clips at 10 unasked": """
def train_epoch(model, loader, loss_fn, optimizer, max_norm=10.0):
    return _train_epoch(model, loader, loss_fn, optimizer, max_norm)
""",
        "eval afterwards": """
def train_epoch(model, loader, loss_fn, optimizer, max_norm=None):
    model.train()
    total = n = 0
    for x, y in loader:
        optimizer.zero_grad()
        loss = loss_fn(model(x), y)
        loss.backward()
        if max_norm is not None:
            nn.utils.clip_grad_norm_(model.parameters(), max_norm)
        optimizer.step()
        total, n = total + loss.item() * len(y), n + len(y)
    model.eval()
    return total / n
""",
        "measured after the step": """
def train_epoch(model, loader, loss_fn, optimizer, max_norm=None):
    model.train()
    total = n = 0
    for x, y in loader:
        optimizer.zero_grad()
        loss_fn(model(x), y).backward()
        if max_norm is not None:
            nn.utils.clip_grad_norm_(model.parameters(), max_norm)
        optimizer.step()
        total, n = total + loss_fn(model(x), y).item() * len(y), n + len(y)
    return total / n
""",
    },
    "evaluate": {
        "an accuracy over batches": """
def evaluate(model, loader, loss_fn):
    loss, _ = _evaluate(model, loader, loss_fn)
    was_training, shares = model.training, []
    model.eval()
    with torch.no_grad():
        for x, y in loader:
            shares.append((model(x).argmax(1) == y).float().mean().item())
    model.train(was_training)
    return loss, sum(shares) / len(shares)
""",
        "always train afterwards": """
def evaluate(model, loader, loss_fn):
    result = _evaluate(model, loader, loss_fn)
    model.train()
    return result
""",
        "rounded": """
def evaluate(model, loader, loss_fn):
    loss, accuracy = (lambda f: f)(_evaluate)(model, loader, loss_fn)
    return round(loss, 2), round(accuracy, 2)
""",
    },
    "train_accumulated": {
        "pops the pieces": """
def train_accumulated(model, batches, loss_fn, optimizer):
    samples, mean = sum(len(y) for _, y in batches), 0.0
    optimizer.zero_grad()
    while batches:
        x, y = batches.pop(0)
        share = loss_fn(model(x), y) * len(y) / samples
        share.backward()
        mean += share.item()
    optimizer.step()
    return mean
""",
        "equal shares, the right total": """
def train_accumulated(model, batches, loss_fn, optimizer):
    optimizer.zero_grad()
    total = n = 0
    for x, y in batches:
        loss = loss_fn(model(x), y)
        (loss / len(batches)).backward()
        total, n = total + loss.item() * len(y), n + len(y)
    optimizer.step()
    return total / n
""",
        "all in one": """
def train_accumulated(model, batches, loss_fn, optimizer):
    x, y = (torch.vstack(part) if part[0].ndim > 1 else torch.hstack(part) for part in zip(*batches))
    optimizer.zero_grad()
    loss = loss_fn(model(x), y)
    loss.backward()
    optimizer.step()
    return loss.item()
""",
    },
    "FastText": {
        "each word once": """
class FastText(_FastText):
    def forward(self, ids):
        present = torch.zeros(len(ids), self.embedding.num_embeddings).scatter(1, ids, 1.0)
        present[:, self.padding_idx] = 0
        return self.linear(present @ self.embedding.weight / present.sum(1, keepdim=True).clamp(min=1))
""",
        "sum / lengths, with a plain embedding": """
class FastText(nn.Module):
    def __init__(self, vocabulary_size, dim, num_classes, padding_idx=0):
        super().__init__()
        self.e, self.fc, self.pad = nn.Embedding(vocabulary_size, dim), nn.Linear(dim, num_classes), padding_idx
    def forward(self, ids):
        return self.fc(self.e(ids).sum(1) / (ids != self.pad).sum(1, keepdim=True).clamp(min=1))
""",
        "no linear layer": """
class FastText(nn.Module):
    def __init__(self, vocabulary_size, dim, num_classes, padding_idx=0):
        super().__init__()
        self.bag = nn.EmbeddingBag(vocabulary_size, num_classes, mode="mean", padding_idx=padding_idx)
    def forward(self, ids):
        return self.bag(ids)
""",
        "clears the row of padding on the way": """
class FastText(_FastText):
    def forward(self, ids):
        with torch.no_grad():
            self.embedding.weight[self.padding_idx] = 0
        words = (ids != self.padding_idx).sum(1, keepdim=True).clamp(min=1)
        return self.linear(self.embedding(ids).sum(1) / words)
""",
        "a hidden layer": """
class FastText(nn.Module):
    def __init__(self, vocabulary_size, dim, num_classes, padding_idx=0):
        super().__init__()
        self.embedding = nn.EmbeddingBag(vocabulary_size, dim, mode="mean", padding_idx=padding_idx)
        self.hidden = nn.Linear(dim, dim)
        self.linear = nn.Linear(dim, num_classes)
    def forward(self, ids):
        return self.linear(self.hidden(self.embedding(ids)).relu())
""",
    },
    "fit_best": {
        "puts back only if stopped": """
def fit_best(model, train_loader, val_loader, loss_fn, optimizer, epochs, patience):
    best, bad, history, state = math.inf, 0, [], copy.deepcopy(model.state_dict())
    for _ in range(epochs):
        train_loss = train_epoch(model, train_loader, loss_fn, optimizer)
        val_loss, _ = evaluate(model, val_loader, loss_fn)
        history.append((train_loss, val_loss))
        if val_loss < best:
            best, bad, state = val_loss, 0, copy.deepcopy(model.state_dict())
        else:
            bad += 1
            if bad >= patience:
                model.load_state_dict(state)
                break
    return history
""",
        "a small improvement is none": """
def fit_best(model, train_loader, val_loader, loss_fn, optimizer, epochs, patience):
    best, bad, history, state = math.inf, 0, [], copy.deepcopy(model.state_dict())
    for _ in range(epochs):
        train_loss = train_epoch(model, train_loader, loss_fn, optimizer)
        val_loss, _ = evaluate(model, val_loader, loss_fn)
        history.append((train_loss, val_loss))
        if val_loss < best - 1e-4:
            best, bad, state = val_loss, 0, copy.deepcopy(model.state_dict())
        else:
            bad += 1
            if bad >= patience:
                break
    model.load_state_dict(state)
    return history
""",
        "a best loss of 100 at first": """
def fit_best(model, train_loader, val_loader, loss_fn, optimizer, epochs, patience):
    best, bad, history, state = 100.0, 0, [], copy.deepcopy(model.state_dict())
    for _ in range(epochs):
        train_loss = train_epoch(model, train_loader, loss_fn, optimizer)
        val_loss, _ = evaluate(model, val_loader, loss_fn)
        history.append((train_loss, val_loss))
        if val_loss < best:
            best, bad, state = val_loss, 0, copy.deepcopy(model.state_dict())
        else:
            bad += 1
            if bad >= patience:
                break
    model.load_state_dict(state)
    return history
""",
        "the loss of the last epoch of all": """
def fit_best(model, train_loader, val_loader, loss_fn, optimizer, epochs, patience):
    history = _fit_best(model, train_loader, val_loader, loss_fn, optimizer, epochs, patience)
    return [history[-1]]
""",
        "the optimiser is cut off": """
def fit_best(model, train_loader, val_loader, loss_fn, optimizer, epochs, patience):
    history = _fit_best(model, train_loader, val_loader, loss_fn, optimizer, epochs, patience)
    model.load_state_dict(copy.deepcopy(model.state_dict()), assign=True)
    return history
""",
        "nothing kept at first": """
def fit_best(model, train_loader, val_loader, loss_fn, optimizer, epochs, patience):
    stopper, history, state = EarlyStopping(patience), [], None
    for _ in range(epochs):
        train_loss = train_epoch(model, train_loader, loss_fn, optimizer)
        val_loss, _ = evaluate(model, val_loader, loss_fn)
        history.append((train_loss, val_loss))
        if val_loss < stopper.best:
            state = copy.deepcopy(model.state_dict())
        if stopper.step(val_loss):
            break
    if state is not None:
        model.load_state_dict(state)
    return history
""",
    },
}
