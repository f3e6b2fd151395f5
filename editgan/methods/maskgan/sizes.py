"""Sizes of MaskGAN's networks: those of the paper from 256 px on, smaller ones below."""


def sizes_of(resolution: int) -> dict[str, dict[str, int]]:
    """Arguments of each network for images of a resolution; the width of the mapping network is a parameter.

    The paper's at 512 px: net {num_downs 4, num_blocks 4, style_width 64, mask_width 64, style_downs 3}, D {width 64},
    vae {width 32, num_downs 7, latent 1024}, blender {width 32, num_downs 3, num_blocks 3}.
    """
    large, halvings = resolution >= 256, resolution.bit_length() - 1  # halvings lead down to one pixel
    return {
        "net": {
            "num_downs": min(4, halvings - 4),
            "num_blocks": 4,
            "style_width": 64,
            "mask_width": 64 if large else 32,
            "style_downs": min(3, halvings - 4),
        },
        "D": {"width": 64 if large else 16},
        "vae": {"width": 32 if large else 16, "num_downs": halvings - 2, "latent": 1024 if large else 128},
        "parser": {"width": 32 if large else 12, "depth": halvings - 3},
        "blender": {"width": 32 if large else 16, "num_downs": min(3, halvings - 4), "num_blocks": 3},
    }
