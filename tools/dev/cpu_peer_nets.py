"""The networks and the work of cpu_peer.py in PyTorch, as diffusers and transformers have them, drawn at random."""
import json

import torch
import torch.nn.functional as F

TYPES = {"f32": torch.float32, "bf16": torch.bfloat16}


# -- networks: a function of the dtype that gives a module and what it is called with


def unet_config(side):
    return dict(
        sample_size=side,
        block_out_channels=(320, 640, 1280, 1280),
        layers_per_block=2,
        down_block_types=("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
        up_block_types=("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
        attention_head_dim=8,
        cross_attention_dim=768,
    )


def lower(module, dtype):
    """bf16 images are fastest channels-last, f32 ones as they are."""
    module = module.eval().to(TYPES[dtype])
    return module.to(memory_format=torch.channels_last) if dtype == "bf16" else module


def unet(side, batch=1):
    def make(dtype):
        from diffusers import UNet2DConditionModel

        class Net(torch.nn.Module):
            def __init__(self):
                super().__init__()
                self.unet = UNet2DConditionModel(**unet_config(side))

            def forward(self, latent, t, context):
                return self.unet(latent, t, context, return_dict=False)[0]

        draw = lambda *dim: torch.randn(*dim).to(TYPES[dtype])
        return lower(Net(), dtype), (draw(batch, 4, side, side), torch.tensor([500]), draw(batch, 77, 768))

    return make


def vae_decode(side):
    def make(dtype):
        from diffusers import AutoencoderKL

        class Net(torch.nn.Module):
            def __init__(self):
                super().__init__()
                self.vae = AutoencoderKL(
                    block_out_channels=(128, 256, 512, 512),
                    down_block_types=("DownEncoderBlock2D",) * 4,
                    up_block_types=("UpDecoderBlock2D",) * 4,
                    latent_channels=4,
                    layers_per_block=2,
                    sample_size=8 * side,
                )

            def forward(self, latent):
                return self.vae.decode(latent, return_dict=False)[0]

        return lower(Net(), dtype), (torch.randn(1, 4, side, side).to(TYPES[dtype]),)

    return make


def clip_config():
    from transformers import CLIPTextConfig

    return CLIPTextConfig(vocab_size=49408, hidden_size=768, intermediate_size=3072, num_hidden_layers=12,
                          num_attention_heads=12, max_position_embeddings=77)


def clip_text(batch):
    def make(dtype):
        from transformers import CLIPTextModel

        class Net(torch.nn.Module):
            def __init__(self):
                super().__init__()
                self.text = CLIPTextModel(clip_config())

            def forward(self, ids):
                return self.text(ids).last_hidden_state

        return Net().eval().to(TYPES[dtype]), (torch.randint(1000, (batch, 77)),)

    return make


def blip_vision(batch):
    def make(dtype):
        from transformers import BlipVisionConfig, BlipVisionModel

        class Net(torch.nn.Module):
            def __init__(self):
                super().__init__()
                self.vision = BlipVisionModel(BlipVisionConfig(image_size=384))

            def forward(self, pixels):
                return self.vision(pixels).last_hidden_state

        return Net().eval().to(TYPES[dtype]), (torch.randn(batch, 3, 384, 384).to(TYPES[dtype]),)

    return make


# -- work: a function of the dtype and of what makes a module and its inputs something to call, that gives a function
# to be timed; its `warm`, if any, is what to do before


def forward(network):
    def make(dtype, wrap):
        net, inputs = network(dtype)
        net = wrap(net, inputs)

        def run():
            with torch.inference_mode():
                net(*inputs)

        return run

    return make


def blip_caption(batch, words):
    def make(dtype, wrap):
        from transformers import BlipConfig, BlipForConditionalGeneration

        config = BlipConfig(text_config=dict(num_attention_heads=12), vision_config=dict(image_size=384))
        net = BlipForConditionalGeneration(config).eval().to(TYPES[dtype])
        pixels = torch.randn(batch, 3, 384, 384).to(TYPES[dtype])
        net.vision_model = wrap(net.vision_model, (pixels,))
        net.text_decoder.bert = wrap(net.text_decoder.bert, ())

        def run():
            with torch.inference_mode():
                ids = net.generate(pixels, max_new_tokens=words, min_new_tokens=words, num_beams=1, do_sample=False)
            assert ids.shape[-1] >= words, ids.shape

        return run

    return make


def picture(side, steps):
    """A whole picture: both prompts through the text encoder, guided steps of DDIM, the decoder."""

    def make(dtype, wrap):
        from diffusers import DDIMScheduler

        text, net, decoder = (wrap(*network(dtype)) for network in (clip_text(2), unet(side, 2), vae_decode(side)))
        ids = torch.randint(1000, (2, 77))
        scheduler = DDIMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear",
                                  clip_sample=False, set_alpha_to_one=False, steps_offset=1)

        def draw(n):
            scheduler.set_timesteps(n)
            context, x = text(ids), torch.randn(1, 4, side, side).to(TYPES[dtype])
            for t in scheduler.timesteps:
                without, told = net(torch.cat([x, x]), t.reshape(1), context).chunk(2)
                x = scheduler.step(without + 7.5 * (told - without), t, x).prev_sample
            decoder(x / 0.18215)

        def run():
            with torch.inference_mode():
                draw(steps)

        def warm():
            with torch.inference_mode():
                draw(1)

        run.warm = warm
        return run

    return make


def start(folder):
    """From nothing but the imported libraries to all that the first step wants: the networks of a folder, and the
    encoded prompts."""

    def make(dtype, _):
        from diffusers import AutoencoderKL, UNet2DConditionModel
        from transformers import CLIPTextModel, CLIPTokenizer

        def run():
            tokenizer = CLIPTokenizer.from_pretrained(folder, subfolder="tokenizer")
            kinds = {"text_encoder": CLIPTextModel, "unet": UNet2DConditionModel, "vae": AutoencoderKL}
            nets = {name: kind.from_pretrained(folder, subfolder=name, torch_dtype=TYPES[dtype])
                    for name, kind in kinds.items()}
            ids = tokenizer(["a dog", "a cat"], padding="max_length", max_length=77, return_tensors="pt").input_ids
            with torch.inference_mode():
                nets["text_encoder"](ids)

        return run

    return make


def unet_clip_train(side):
    """UNet and text encoder under the loss of the noise; bf16: autocast, as trainers do it."""

    def make(dtype, wrap):
        from diffusers import UNet2DConditionModel
        from transformers import CLIPTextModel

        net, text = UNet2DConditionModel(**unet_config(side)).train(), CLIPTextModel(clip_config()).train()
        optimizer = torch.optim.AdamW([*net.parameters(), *text.parameters()], lr=1e-5, fused=True)
        compiled, ids = wrap(net, ()), torch.randint(1000, (1, 77))
        x, noise = torch.randn(1, 4, side, side), torch.randn(1, 4, side, side)

        def run():
            with torch.autocast("cpu", torch.bfloat16, enabled=dtype == "bf16"):
                predicted = compiled(x, torch.tensor([500]), text(ids).last_hidden_state).sample
            F.mse_loss(predicted.float(), noise).backward()
            optimizer.step()
            optimizer.zero_grad()

        return run

    return make


def attention(batch, queries, keys, heads, size):
    def make(dtype, _):
        q = torch.randn(batch, heads, queries, size).to(TYPES[dtype])
        k, v = torch.randn(2, batch, heads, keys, size).to(TYPES[dtype])

        def run():
            with torch.inference_mode():
                F.scaled_dot_product_attention(q, k, v)

        return run

    return make


def single(module, *dim):
    """One module on channels-last images, or on rows."""

    def make(dtype, wrap):
        net, x = module().to(TYPES[dtype]), torch.randn(*dim).to(TYPES[dtype])
        if len(dim) == 4:
            net, x = net.to(memory_format=torch.channels_last), x.to(memory_format=torch.channels_last)
        net = wrap(net, (x,))

        def run():
            with torch.inference_mode():
                net(x)

        return run

    return make


def conv(side, channels_in, channels_out, kernel, stride=1):
    return single(lambda: torch.nn.Conv2d(channels_in, channels_out, kernel, stride, kernel // 2),
                  1, channels_in, side, side)


def linear(rows, columns_out, columns_in):
    return single(lambda: torch.nn.Linear(columns_in, columns_out), rows, columns_in)


def groupnorm_silu(side, channels):
    return single(lambda: torch.nn.Sequential(torch.nn.GroupNorm(32, channels), torch.nn.SiLU()),
                  1, channels, side, side)


def layernorm(rows, columns):
    return single(lambda: torch.nn.LayerNorm(columns), rows, columns)


def demo_unet_train(folder, _, wrap):
    """The demo's step: text encoder and UNet, min-SNR weights, clipping, AdamW, a moving average."""
    from diffusers import UNet2DConditionModel
    from diffusers.training_utils import EMAModel
    from transformers import CLIPTextConfig, CLIPTextModel

    config = json.load(open(f"{folder}/diffusion/unet/config.json"))
    net = UNet2DConditionModel.from_config(config).train()
    config = json.load(open(f"{folder}/diffusion/text_encoder/config.json"))
    text = CLIPTextModel(CLIPTextConfig(**config)).train()
    parameters = list(net.parameters()) + list(text.parameters())
    optimizer = torch.optim.AdamW(parameters, lr=2e-3, weight_decay=1e-2, fused=True)
    ema = EMAModel(parameters, decay=0.99)
    compiled, batch = wrap(net, ()), 64
    side, channels = net.config.sample_size, net.config.in_channels
    ids = torch.randint(1000, (batch, text.config.max_position_embeddings))
    x0 = torch.randn(batch, channels, side, side)

    def run():
        noise = torch.randn_like(x0)
        alpha, t = torch.rand(batch, 1, 1, 1), torch.randint(1000, (batch,))
        x = alpha.sqrt() * x0 + (1 - alpha).sqrt() * noise
        target = alpha.sqrt() * noise - (1 - alpha).sqrt() * x0
        predicted = compiled(x, t, text(ids).last_hidden_state).sample
        loss = (((predicted - target) ** 2).mean((1, 2, 3)) * alpha.flatten()).mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        ema.step(parameters)

    return run
