"""Faster inference for pretrained networks: fold batch norms into the preceding convolutions, use channels last."""

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval


def for_inference(network: nn.Module) -> nn.Module:
    """Modify the network in place: same outputs up to rounding, up to three times as fast on a CPU.

    A batch norm is folded if it is registered directly after a convolution with the same number of channels. In the
    networks of this package it is then also applied directly after it.
    """
    network.eval()
    for module in list(network.modules()):
        children = list(module.named_children())
        for (conv_name, conv), (norm_name, norm) in zip(children, children[1:], strict=False):
            if type(conv) is nn.Conv2d and type(norm) is nn.BatchNorm2d and conv.out_channels == norm.num_features:
                setattr(module, conv_name, fuse_conv_bn_eval(conv, norm).requires_grad_(False))
                setattr(module, norm_name, nn.Identity())
    return network.to(memory_format=torch.channels_last)
