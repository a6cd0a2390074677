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
    # 10 diffusion
    ("inference_timesteps", "0 → -1"): "a tensor with one axis is turned round along it, first or last",
    ("ddpm_step", "0 → -1"): "betas has one axis, so the first is the last",
    (
        "denoising_loss",
        "F.mse_loss(predicted, noise) → F.mse_loss(noise, predicted)",
    ): "the squared error is the same in either order",
    ("FashionPipeline", "super().__init__() → nothing"): "DiffusionPipeline has no __init__ that does anything",
    ("FashionPipeline", "super().__init__() → super()"): "DiffusionPipeline has no __init__ that does anything",
}
