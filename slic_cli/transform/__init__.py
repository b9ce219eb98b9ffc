"""Analysis and synthesis transforms: pixels <-> real latents, over tiles with halo so that any size fits in memory."""
