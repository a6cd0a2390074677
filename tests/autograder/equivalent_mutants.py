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
    # 03 data
    (
        "WindowDataset",
        "max(0, len(self.series) - self.size - self.horizon + 1) → "
        "max(len(self.series) - self.size - self.horizon + 1, 0)",
    ): "the larger of two is the same in either order",
    ("balanced_sampler", "1 → 2"): "weights count up to a common factor",
    ("channel_stats", "256 → 257"): "how many images are held at once is no part of the result",
    ("channel_stats", "256 → 255"): "how many images are held at once is no part of the result",
    (
        "channel_stats",
        "images.double().transpose(0, 1) → images.double().transpose(1, 0)",
    ): "swapping two axes is the same in either order",
    (
        "Loader",
        "torch.randperm(n, generator=self.generator).tolist() → torch.randperm(n, generator=self.generator)",
    ): "a tensor without axes is as good an index as its number",
}
