"""BLIP models and words, for caption_peer.py and caption_train_peer.py."""
import shutil
from pathlib import Path

import tokenizers
import torch
import transformers

OLD = tuple(int(n) for n in transformers.__version__.split(".")[:2]) <= (4, 35)


def words_of(folder):
    """Text to ids without the ends, as the model's own tokenizer has it."""
    folder = Path(folder)
    if (folder / "merges.txt").exists():
        files = dict(vocab=str(folder / "vocab.json"), merges=str(folder / "merges.txt"))
        if OLD:
            files = dict(vocab_file=files["vocab"], merges_file=files["merges"])
        tokenizer = transformers.CLIPTokenizer(**files)
        return lambda text: tokenizer(text, add_special_tokens=False)["input_ids"]
    tokenizer = tokenizers.BertWordPieceTokenizer(str(folder / "vocab.txt"), lowercase=True)
    return lambda text: tokenizer.encode(text, add_special_tokens=False).ids


def make_model(folder, vocabulary, full, std, tied=False, **text):
    """A random BLIP with BERT's words, small or of the published base's size. Untied, its output matrix is in the file,
    as in published ones. The end of a caption is likely enough for captions of several lengths."""
    torch.manual_seed(1)
    words = Path(vocabulary) / "vocab.txt"
    n_words = len(words.read_text().splitlines())
    small = dict(hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=2)
    sizes = dict(num_attention_heads=12, encoder_hidden_size=768) if full else dict(
        small, encoder_hidden_size=64, max_position_embeddings=64)
    config = transformers.BlipConfig(
        vision_config=dict({} if full else dict(small, image_size=64), initializer_range=std),
        text_config=dict(sizes, vocab_size=n_words + 2, bos_token_id=n_words, initializer_range=std,
                         tie_word_embeddings=tied, **text),
        initializer_range=std, tie_word_embeddings=tied)
    model = transformers.BlipForConditionalGeneration(config)
    head = model.text_decoder.cls.predictions
    with torch.no_grad():
        head.bias[config.text_config.sep_token_id] = 3 * head.decoder.weight.norm(dim=1).mean()
        head.decoder.bias.copy_(head.bias)  # untied, transformers 5 has two
    model.save_pretrained(folder)
    shutil.copy(words, folder)


def processor(side):
    """BLIP's, with Pillow's resizing."""
    kind = getattr(transformers, "BlipImageProcessorPil", None) or transformers.BlipImageProcessor
    return kind(size={"height": side, "width": side})
