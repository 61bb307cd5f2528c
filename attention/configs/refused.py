"""Types that are refused, and why."""

_ENCODER = "it is an encoder (or runs as one); it keeps no cache while decoding"
_VISION = "it has no text decoder"

REFUSED: dict[str, str] = {
    **dict.fromkeys(
        (
            *("bert", "roberta", "xlm-roberta", "xlm-roberta-xl", "camembert", "electra", "deberta", "deberta-v2"),
            *("distilbert", "albert", "mpnet", "modernbert", "nomic_bert", "longformer", "big_bird", "rembert"),
            *("roformer", "ernie", "megatron-bert", "data2vec-text", "roberta-prelayernorm", "roc_bert", "xmod"),
            *("squeezebert", "funnel", "fnet", "mobilebert", "esm", "bert-generation", "canine", "xlm", "flaubert"),
            *("convbert", "eurobert", "neobert", "luke", "mra", "nystromformer", "yoso", "layoutlm", "lilt"),
        ),
        _ENCODER,
    ),
    **dict.fromkeys(
        (
            *("vit", "clip", "clip_vision_model", "siglip", "siglip2", "siglip_vision_model", "dinov2", "dinov3_vit"),
            *("swin", "swinv2", "beit", "deit", "resnet", "convnext", "convnextv2", "detr", "sam", "sam2", "yolos"),
            *("segformer", "mask2former", "wav2vec2", "hubert", "wavlm", "encodec", "mimi", "clap", "altclip"),
            *(
                "depth_anything",
                "mobilevit",
                "poolformer",
                "regnet",
                "efficientnet",
                "vitdet",
                "pixtral",
                "chinese_clip",
            ),
        ),
        _VISION,
    ),
    **dict.fromkeys(
        ("vision-encoder-decoder", "encoder-decoder", "speech-encoder-decoder"),
        "it joins two models of any kind; give the decoder's own configuration",
    ),
    "xlnet": "it caches hidden states of earlier segments (mems), not keys and values",
    "transfo-xl": "it caches hidden states of earlier segments (mems), not keys and values",
    "openai-gpt": "its code keeps no cache",
    **dict.fromkeys(
        ("whisper", "speech_to_text", "moonshine", "seamless_m4t", "musicgen", "trocr", "donut"),
        "it decodes speech, music or images, whose encoded length the file does not decide",
    ),
    **dict.fromkeys(
        ("rwkv", "rwkv5", "rwkv6", "rwkv7", "xlstm", "retnet"),
        "it has no keys and values at all, and its recurrent state is not described here",
    ),
    "reformer": "its LSH attention caches hidden states by bucket, which is not described here",
}
