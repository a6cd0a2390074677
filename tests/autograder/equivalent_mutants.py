"""Mutants that no trial can catch, because they compute the same: the change, and why it changes nothing.

A mutant that survives and is not listed here is a missing trial; one that is listed and does not survive is stale.
"""

EQUIVALENT: dict[tuple[str, str], str] = {
    ("gram_matrices", "'bti,btj->bij' → 'bti,btj->bji'"): "a Gram matrix is symmetric",
    ("sliding_windows", "0 → -1"): "x has one axis, so the first is the last",
    (
        "split_heads",
        "x.reshape(b, t, heads, width // heads).transpose(1, 2) → "
        "x.reshape(b, t, heads, width // heads).transpose(2, 1)",
    ): "swapping two axes is the same in either order",
    ("top_k_accuracy", "logits.topk(k, dim=1) → logits.topk(k)"): "topk takes the last axis where none is given",
    ("weighted_mse", "0 → -1"): "predictions have shape (n, 1), so the first column is the last",
    # 02 autograd
    ("numerical_gradient", "0.0001 → -0.0001"): "a step down and a step up are the same two points",
    ("numerical_gradient", "x.detach() → x"): "torch.tensor takes the numbers alone, though it remarks on the graph",
    ("numerical_gradient", "x = x.detach() → nothing"): "the same",
    (
        "numerical_gradient",
        "torch.tensor(differences, dtype=x.dtype) → torch.tensor(differences)",
    ): "a list of tensors keeps their dtype, unless it is empty, which is not judged",
    ("gradient_descent", "x0.detach() → x0"): "advice of the prompt, not judged: no graph on the path",
    ("gradient_descent", "path[-1].detach() → path[-1]"): "advice of the prompt, not judged: no graph on the path",
    ("safe_sqrt", "1 → 0"): "where passes no gradient to what it did not choose, so any number is harmless",
    ("safe_sqrt", "1 → 2"): "any number is harmless",
    ("hessian", "0 → -1"): "the tuple has one gradient",
    ("hessian", "x.detach() → x"): "advice of the prompt, not judged: requires_grad of x",
    ("jvp", "x.detach() → x"): "advice of the prompt, not judged: requires_grad of x",
    ("fit_ridge", "(w, b) → (b, w)"): "both begin as a zero",
    ("Value", "zip(node.parents, node.slopes, strict=True) → zip(node.parents, node.slopes)"): "equally long",
    ("Value", "True → False"): "strict: equally long",
    ("Value", "self.op = op → nothing"): "for the drawing",
    ("Value", "(self, other) → (other, self)"): "the parents of a sum, whose slopes are equal",
    ("Value", "self * -1 → self / -1"): "the same number",
    ("Value", "0.0 → -0.0"): "the same number",
    ("Value", "0 → 1"): "the depth of a leaf is arbitrary",
    ("Value", "0 → -1"): "the depth of a leaf is arbitrary",
    ("Value", "1 → 2"): "a depth may grow by more than one",
    # 03 data
    (
        "WindowDataset",
        "max(0, len(self.series) - self.size - self.horizon + 1) → "
        "max(len(self.series) - self.size - self.horizon + 1, 0)",
    ): "the larger of two is the same in either order",
    ("WindowDataset", "0 → -1"): "advice of the prompt, not judged: a series far too short",
    (
        "Denormalize",
        "torch.as_tensor(one, dtype=images.dtype) → torch.as_tensor(one)",
    ): "advice of the prompt, not judged: float16",
    ("balanced_sampler", "1 → 2"): "weights count up to a common factor",
    ("channel_stats", "256 → 257"): "how many images are held at once is no part of the result",
    ("channel_stats", "256 → 255"): "how many images are held at once is no part of the result",
    ("channel_stats", "variance.clamp(min=0) → variance"): "advice of the prompt, not judged: blank channels",
    ("channel_stats", "0 → -1"): "advice of the prompt, not judged: blank channels",
    ("channel_stats", "images.double() → images"): "float32 does for pictures; the prompt recommends float64",
    (
        "channel_stats",
        "images.double().transpose(0, 1) → images.double().transpose(1, 0)",
    ): "swapping two axes is the same in either order",
    (
        "Loader",
        "torch.randperm(n, generator=self.generator).tolist() → torch.randperm(n, generator=self.generator)",
    ): "a tensor without axes is as good an index as its number",
    # 04 modules
    ("capture", "output.detach().clone() → output.detach()"): "advice of the prompt, not judged",
    ("capture", "output.detach() → output"): "advice of the prompt, not judged",
    (
        "Dropout",
        "torch.rand_like(x) >= self.p → torch.rand_like(x) > self.p",
    ): "they differ only where a draw is exactly p",
    (
        "Linear",
        "1 / math.sqrt(in_features) → 1 * math.sqrt(in_features)",
    ): "the distribution of the first weights is the student's",
    ("Linear", "1 → 2"): "the distribution of the first weights is the student's",
    # 05 training
    (
        "bce_with_logits",
        "torch.logaddexp(logits, torch.zeros_like(logits)) → torch.logaddexp(torch.zeros_like(logits), logits)",
    ): "a sum in the other order",
    (
        "warmup_cosine",
        "min((step - warmup) / (total - warmup), 1.0) → min(1.0, (step - warmup) / (total - warmup))",
    ): "the smaller of two numbers, in the other order",
    ("EarlyStopping", "0.0 → -0.0"): "subtracting −0 changes no loss",
    ("parameter_groups", "0.0 → -0.0"): "a weight decay of −0 is none either",
    ("FastText", "0.0 → -0.0"): "adding −0 changes no sum",
    ("train_accumulated", "(_, labels) → (labels, _)"): "inputs and labels of a batch are equally many",
    ("resume", "torch.load(path, weights_only=True) → torch.load(path)"): "True is the default since PyTorch 2.6",
    ("resume", "random.setstate(state['python']) → random"): "advice of the prompt, not judged",
    ("resume", "random.setstate(state['python']) → nothing"): "advice of the prompt, not judged",
    ("resume", "np.random.set_state(state['numpy']) → np.random"): "advice of the prompt, not judged",
    ("resume", "np.random.set_state(state['numpy']) → nothing"): "advice of the prompt, not judged",
    # 06 tensorboard
    (
        "dead_units",
        "(activations != 0).transpose(0, 1) → (activations != 0).transpose(1, 0)",
    ): "swapping two axes is the same in either order",
    ("filters_as_images", "(1, 2, 3) → (2, 1, 3)"): "axes are reduced in any order",
    ("best_run", "1 → 2"): "values that are all doubled are in the same order",
    (
        "best_run",
        "max(best, key=best.get, default=None) → max(best, key=best.get)",
    ): "advice of the prompt, not judged: no run has the tag",
    ("best_run", "path.is_dir() → path"): "not judged: no file beside the runs has the best value",
    ("seed_band", "0 → -1"): "the steps that all runs have are among those of the last run as well",
    ("embed", "0 → -1"): "the layer is called once, so the first output is the last",
    ("embed", "labels.tolist() → labels"): "the projector shows the same labels",
    ("train_and_log", "F.mse_loss(model(x), y) → F.mse_loss(y, model(x))"): "the squared error is symmetric",
    ("ThrottledWriter", "count + 1 → count - 1"): "counted downwards, the same counts are divisible",
    # 07 attention
    ("MultiHeadAttention", "values.transpose(1, 2) → values.transpose(2, 1)"): "swapping two axes, in either order",
    (
        "MultiHeadAttention",
        "layer(x).reshape(by_head).transpose(1, 2) → layer(x).reshape(by_head).transpose(2, 1)",
    ): "swapping two axes is the same in either order",
    ("bleu", "(1, 2, 3, 4) → (2, 1, 3, 4)"): "the order of the factors does not matter",
    ("bleu", "0.0 → -0.0"): "-0.0 equals 0.0",
    ("bleu", "True → False"): "predictions and targets are equally many",
    ("bleu", "min(0.0, 1 - r / c) → min(1 - r / c, 0.0)"): "the smaller of two, in either order",
    ("bleu", "zip(predicted, targets, strict=True) → zip(predicted, targets)"): "they are equally many",
    (
        "error_rate",
        "min(row[j + 1] + 1, new[j] + 1, row[j] + (symbol != wanted)) → "
        "min(new[j] + 1, row[j + 1] + 1, row[j] + (symbol != wanted))",
    ): "the least of three, in any order",
    ("sample_top_k", "0 → -1"): "the places have shape (b, 1), so the first column is the last",
    # 08 huggingface
    ("linear_factor", "0.0 → -0.0"): "the two zeros are equal",
    (
        "linear_factor",
        "max(0.0, (total - step) / (total - warmup)) → max((total - step) / (total - warmup), 0.0)",
    ): "the larger of two numbers, in either order",
    ("search", "min(k, len(corpus)) → min(len(corpus), k)"): "the smaller of two numbers, in either order",
    ("compute_metrics", "np.union1d(labels, predictions) → np.union1d(predictions, labels)"): "a union has no order",
    (
        "tokenize_dataset",
        "tokenizer(batch['text'], truncation=True) → tokenizer(batch['text'])",
    ): "truncation is advice of the prompt, not judged",
    ("tokenize_dataset", "True → False"): "truncation is advice of the prompt, not judged",
    (
        "classify",
        "tokenizer(texts[start:start + 32], padding=True, truncation=True, return_tensors='pt') → "
        "tokenizer(texts[start:start + 32], padding=True, return_tensors='pt')",
    ): "truncation is advice of the prompt, not judged",
    ("classify", "True → False"): "truncation is advice of the prompt, not judged",
    ("perplexity", "0 → -1"): "in a batch of one, the first text is the last",
    ("generate", "0 → -1"): "in a batch of one, the first text is the last",
    ("generate", "new.item() → new"): "a tensor of one number equals that number",
    # 09 peft
    (
        "LoRALinear",
        "torch.randn(r, base.in_features).to(base.weight) → torch.randn(r, base.in_features)",
    ): "the base's dtype and device are advice of the prompt, not judged",
    (
        "LoRALinear",
        "merged.to(self.base.weight.device, self.base.weight.dtype) → nothing",
    ): "advice of the prompt, not judged",
    (
        "LoRALinear",
        "merged.to(self.base.weight.device, self.base.weight.dtype) → merged",
    ): "advice of the prompt, not judged",
    # 10 diffusion
    ("inference_timesteps", "0 → -1"): "a tensor with one axis is turned round along it, first or last",
    ("ddpm_step", "0 → -1"): "betas has one axis, so the first is the last",
    (
        "denoising_loss",
        "F.mse_loss(predicted, noise) → F.mse_loss(noise, predicted)",
    ): "the squared error is the same in either order",
    ("FashionPipeline", "super().__init__() → nothing"): "DiffusionPipeline has no __init__ that does anything",
    ("FashionPipeline", "super().__init__() → super()"): "DiffusionPipeline has no __init__ that does anything",
    (
        "cosine_betas",
        "(1 - kept[1:] / kept[:-1]).clamp(max=0.999).float() → (1 - kept[1:] / kept[:-1]).clamp(max=0.999)",
    ): "any float dtype is taken",
    (
        "cosine_betas",
        "torch.arange(steps + 1, dtype=torch.float64) → torch.arange(steps + 1)",
    ): "float32 is near enough",
    (
        "sample",
        "torch.randn(shape, generator=generator) * scheduler.init_noise_sigma → "
        "torch.randn(shape, generator=generator) / scheduler.init_noise_sigma",
    ): "it is 1 for DDPM and DDIM; Euler is advice of the prompt",
    (
        "FashionPipeline",
        "torch.randn(shape, generator=generator) * self.scheduler.init_noise_sigma → "
        "torch.randn(shape, generator=generator) / self.scheduler.init_noise_sigma",
    ): "it is 1 for DDPM and DDIM; Euler is advice of the prompt",
}
