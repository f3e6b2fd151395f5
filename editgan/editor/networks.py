"""The editor's files in a folder of outputs."""

MODELS = {
    "assets/lpips_vgg.safetensors": "assets",
    "data/classes.json": "data",
    "generator/G_ema.safetensors": "generator",
    "encoder/E.safetensors": "encoder",
    "segmentation/S.safetensors": "segmentation",
}  # the editor's files, and the stages that write them
