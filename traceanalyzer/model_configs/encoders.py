"""Models whose queries read the whole sequence: BERT and RoBERTa, T5, ViT."""

from __future__ import annotations

from dataclasses import replace

from traceanalyzer.errors import InputError
from traceanalyzer.model import ModelShape
from traceanalyzer.model_configs.settings import Extras, Settings, with_extras

_BIASED = Extras(qkv_bias=True, output_bias=True, mlp_bias=True, norm_bias=True)
_MASKED = ("BertForMaskedLM", "RobertaForMaskedLM", "BertForPreTraining")


def read_bert(settings: Settings) -> ModelShape:
    """A BERT that predicts masked tokens; the norm of the embeddings stands for the final one that BERT has not."""
    named = settings.sequence("architectures")
    if named and named[0] not in _MASKED:
        raise InputError(
            f"{settings.source}: architecture '{named[0]}' has a head that is not counted",
            f"known: {', '.join(_MASKED)}; or declare --flops-per-token",
        )
    hidden, layers = settings.integer("hidden_size"), settings.num_layers("num_hidden_layers")
    shape = replace(_encoder(settings, layers), tied_embeddings=settings.flag("tie_word_embeddings", default=True))
    positions = settings.integer("max_position_embeddings") + settings.integer("type_vocab_size")
    shape = with_extras(shape, replace(_BIASED, num_positions=positions))
    head = 3 * hidden + shape.vocab_size  # bias and norm of the head's matrix, bias of the logits
    if named and named[0] == "BertForPreTraining":  # pooled once per sequence: no matrix multiplication per token
        head += hidden * hidden + hidden + 2 * hidden + 2
    return replace(shape, head_parameters=hidden * hidden, extra_parameters=shape.extra_parameters + head)


def read_vit(settings: Settings) -> ModelShape:
    """A ViT that classifies images. A token is a patch or the class token."""
    hidden, layers = settings.integer("hidden_size"), settings.num_layers("num_hidden_layers")
    bias = settings.flag("qkv_bias", default=True)
    patches = vit_sequence_length(settings)
    patch = settings.integer("num_channels") * settings.integer("patch_size") ** 2
    shape = replace(_encoder(settings, layers), vocab_size=0, input_size=patch)
    shape = with_extras(shape, replace(_BIASED, qkv_bias=bias, num_positions=patches + 1))
    named = settings.table("id2label")
    labels = settings.integer("num_labels", default=len(named.config) if named else 2)
    return replace(
        shape,
        extra_parameters=shape.extra_parameters + hidden + labels * (hidden + 1),
        not_counted="the classifier, which sees one token of an image",
    )


def vit_sequence_length(settings: Settings) -> int:
    """Tokens of an image: its patches and the class token."""
    side = settings.integer("image_size") // max(settings.integer("patch_size"), 1)
    return side * side + 1


def read_t5(settings: Settings) -> ModelShape:
    """A T5. A token stands for one of the encoder's and one of the decoder's: both sequences count as equally long."""
    encoder = settings.num_layers("num_layers")
    decoder = settings.integer("num_decoder_layers", default=encoder)
    heads = settings.integer("num_heads")
    return ModelShape(
        num_layers=encoder + decoder,
        hidden_size=settings.integer("d_model"),
        num_heads=heads,
        num_kv_heads=heads,
        head_size=settings.integer("d_kv"),
        ffn_size=settings.integer("d_ff"),
        vocab_size=settings.integer("vocab_size"),
        gated_mlp=settings.text("feed_forward_proj").startswith("gated"),
        tied_embeddings=settings.flag("tie_word_embeddings", default=True),
        num_encoder_layers=encoder,
        extra_parameters=2 * heads * settings.integer("relative_attention_num_buckets"),
        not_counted="a difference in length between encoder and decoder: a token stands for one of each",
    )


def _encoder(settings: Settings, layers: int) -> ModelShape:
    hidden, heads = settings.integer("hidden_size"), settings.integer("num_attention_heads")
    return ModelShape(
        num_layers=layers,
        hidden_size=hidden,
        num_heads=heads,
        num_kv_heads=heads,
        head_size=hidden // max(heads, 1),
        ffn_size=settings.integer("intermediate_size"),
        vocab_size=settings.integer("vocab_size", default=1),
        num_encoder_layers=layers,
    )
