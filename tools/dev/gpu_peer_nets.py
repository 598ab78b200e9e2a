"""Stable Diffusion 1.4's UNet and CLIP's text encoder in torch modules, for gpu_peer.py.

Module names are those of the published weights. unet() is diffusers' own where it is installed.
"""
import math

import torch
import torch.nn.functional as F
from torch import nn

try:
    from diffusers import UNet2DConditionModel

    WHOSE = "UNet of diffusers"
except (ImportError, AttributeError, RuntimeError):  # not there, or not fit for this torch
    UNet2DConditionModel = None
    WHOSE = "UNet in torch modules"


class Resnet(nn.Module):
    def __init__(self, inner, outer, time, groups):
        super().__init__()
        self.norm1, self.conv1 = nn.GroupNorm(groups, inner), nn.Conv2d(inner, outer, 3, padding=1)
        self.time_emb_proj = nn.Linear(time, outer)
        self.norm2, self.conv2 = nn.GroupNorm(groups, outer), nn.Conv2d(outer, outer, 3, padding=1)
        self.conv_shortcut = nn.Conv2d(inner, outer, 1) if inner != outer else None

    def forward(self, x, t):
        h = self.conv1(F.silu(self.norm1(x))) + self.time_emb_proj(F.silu(t))[:, :, None, None]
        h = self.conv2(F.silu(self.norm2(h)))
        return (x if self.conv_shortcut is None else self.conv_shortcut(x)) + h


class Attention(nn.Module):
    def __init__(self, width, context, heads):
        super().__init__()
        self.heads = heads
        self.to_q, self.to_k, self.to_v = (nn.Linear(n, width, bias=False) for n in (width, context, context))
        self.to_out = nn.ModuleList([nn.Linear(width, width)])

    def forward(self, x, context):
        q, k, v = (y.unflatten(-1, (self.heads, -1)).transpose(1, 2) for y in (self.to_q(x), self.to_k(context), self.to_v(context)))
        return self.to_out[0](F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class GEGLU(nn.Module):
    def __init__(self, width, inner):
        super().__init__()
        self.proj = nn.Linear(width, 2 * inner)

    def forward(self, x):
        x, gate = self.proj(x).chunk(2, -1)
        return x * F.gelu(gate)


class FeedForward(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.net = nn.Sequential(GEGLU(width, 4 * width), nn.Identity(), nn.Linear(4 * width, width))

    def forward(self, x):
        return self.net(x)


class TransformerBlock(nn.Module):
    def __init__(self, width, context, heads):
        super().__init__()
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(width) for _ in range(3))
        self.attn1, self.attn2 = Attention(width, width, heads), Attention(width, context, heads)
        self.ff = FeedForward(width)

    def forward(self, x, context):
        y = self.norm1(x)
        x = x + self.attn1(y, y)
        x = x + self.attn2(self.norm2(x), context)
        return x + self.ff(self.norm3(x))


class Transformer(nn.Module):
    def __init__(self, width, context, heads, groups):
        super().__init__()
        self.norm = nn.GroupNorm(groups, width, eps=1e-6)
        self.proj_in, self.proj_out = nn.Conv2d(width, width, 1), nn.Conv2d(width, width, 1)
        self.transformer_blocks = nn.ModuleList([TransformerBlock(width, context, heads)])

    def forward(self, x, context):
        h = self.proj_in(self.norm(x))
        shape = h.shape
        h = self.transformer_blocks[0](h.permute(0, 2, 3, 1).flatten(1, 2), context)
        return x + self.proj_out(h.transpose(1, 2).reshape(shape))


class Resize(nn.Module):
    def __init__(self, width, down):
        super().__init__()
        self.down = down
        self.conv = nn.Conv2d(width, width, 3, 2 if down else 1, 1)

    def forward(self, x):
        return self.conv(x if self.down else F.interpolate(x, scale_factor=2.0, mode="nearest"))


class Block(nn.Module):
    def __init__(self, inners, outer, time, groups, context=None, heads=1, resize=None):
        super().__init__()
        self.resnets = nn.ModuleList([Resnet(n, outer, time, groups) for n in inners])
        if context:
            self.attentions = nn.ModuleList([Transformer(outer, context, heads, groups) for _ in inners])
        if resize:
            setattr(self, resize, nn.ModuleList([Resize(outer, resize == "downsamplers")]))


class TimeEmbedding(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.linear_1, self.linear_2 = nn.Linear(width, 4 * width), nn.Linear(4 * width, 4 * width)

    def forward(self, t):
        return self.linear_2(F.silu(self.linear_1(t)))


class UNet(nn.Module):
    def __init__(self, widths, context, heads, groups):
        super().__init__()
        time, last = 4 * widths[0], len(widths) - 1
        self.context, self.width = context, widths[0]
        self.time_embedding = TimeEmbedding(widths[0])
        self.conv_in = nn.Conv2d(4, widths[0], 3, padding=1)
        self.down_blocks, self.up_blocks = nn.ModuleList(), nn.ModuleList()
        skips, width = [widths[0]], widths[0]
        for i, outer in enumerate(widths):
            cross = context if i < last else None
            down = "downsamplers" if i < last else None
            self.down_blocks.append(Block((width, outer), outer, time, groups, cross, heads, down))
            skips += [outer, outer] + [outer] * (i < last)
            width = outer
        self.mid_block = Block((width, width), width, time, groups)
        self.mid_block.attentions = nn.ModuleList([Transformer(width, context, heads, groups)])
        for i, outer in enumerate(reversed(widths)):
            inners = []
            for _ in range(3):
                inners.append(width + skips.pop())
                width = outer
            self.up_blocks.append(Block(inners, outer, time, groups, context if i else None, heads, "upsamplers" if i < last else None))
        self.conv_norm_out, self.conv_out = nn.GroupNorm(groups, width), nn.Conv2d(width, 4, 3, padding=1)

    def forward(self, x, t, context):
        half = self.width // 2
        angle = t.float()[:, None] * torch.exp(torch.arange(half, device=t.device) * (-math.log(10000) / half))
        t = self.time_embedding(torch.cat((angle.cos(), angle.sin()), -1).to(self.conv_in.weight.dtype))
        x = self.conv_in(x)
        skips = [x]
        for block in self.down_blocks:
            for i, resnet in enumerate(block.resnets):
                x = resnet(x, t)
                if hasattr(block, "attentions"):
                    x = block.attentions[i](x, context)
                skips.append(x)
            if hasattr(block, "downsamplers"):
                x = block.downsamplers[0](x)
                skips.append(x)
        x = self.mid_block.resnets[0](x, t)
        x = self.mid_block.resnets[1](self.mid_block.attentions[0](x, context), t)
        for block in self.up_blocks:
            for i, resnet in enumerate(block.resnets):
                x = resnet(torch.cat((x, skips.pop()), 1), t)
                if hasattr(block, "attentions"):
                    x = block.attentions[i](x, context)
            if hasattr(block, "upsamplers"):
                x = block.upsamplers[0](x)
        return self.conv_out(F.silu(self.conv_norm_out(x)))


class Diffusers(nn.Module):
    """diffusers' UNet behind the same call."""

    def __init__(self, net, context):
        super().__init__()
        self.net, self.context = net, context

    def forward(self, x, t, context):
        return self.net(x, t, context, return_dict=False)[0]


SIZES = {False: ((320, 640, 1280, 1280), 768, 8, 32), True: ((32, 64, 64, 64), 48, 4, 8)}


def own_unet(small):
    return UNet(*SIZES[small])


def diffusers_unet(small):
    widths, context, heads, groups = SIZES[small]
    return UNet2DConditionModel(
        sample_size=64,
        block_out_channels=widths,
        layers_per_block=2,
        down_block_types=("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
        up_block_types=("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
        attention_head_dim=heads,
        cross_attention_dim=context,
        norm_num_groups=groups,
    )


def unet(small):
    return Diffusers(diffusers_unet(small), SIZES[small][1]) if UNet2DConditionModel else own_unet(small)


class TextLayer(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.fc1, self.fc2 = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x):
        q, k, v = (y.unflatten(-1, (self.heads, -1)).transpose(1, 2) for y in self.qkv(self.norm1(x)).chunk(3, -1))
        x = x + self.out(F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).flatten(2))
        h = self.fc1(self.norm2(x))
        return x + self.fc2(h * torch.sigmoid(1.702 * h))


class ClipText(nn.Module):
    def __init__(self, words, width, layers, heads):
        super().__init__()
        self.words, self.places = nn.Embedding(words, width), nn.Embedding(77, width)
        self.layers = nn.ModuleList([TextLayer(width, heads) for _ in range(layers)])
        self.norm = nn.LayerNorm(width)

    def forward(self, ids):
        x = self.words(ids) + self.places.weight
        for layer in self.layers:
            x = layer(x)
        return self.norm(x)


def clip_text(small):
    return ClipText(100, 48, 2, 4) if small else ClipText(49408, 768, 12, 12)
