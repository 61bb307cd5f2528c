"""Types that are refused, each with the reason."""

_ENCODER = "it is an encoder (or runs as one); its code keeps no cache"
_VISION = "it has no text decoder"

REFUSED: dict[str, str] = {
    **dict.fromkeys(
        (
            *("deberta", "deberta-v2", "distilbert", "albert", "mpnet", "modernbert", "nomic_bert", "longformer"),
            *("squeezebert", "funnel", "fnet", "mobilebert", "esm", "canine", "xlm", "flaubert"),
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
        (
            *("moonshine", "moonshine_streaming", "seamless_m4t", "seamless_m4t_v2", "canary", "cohere_asr", "dia"),
            *("speecht5", "donut", "kyutai_speech_to_text"),
        ),
        "it decodes from speech or images by an encoder of its own, whose share of the cache is not described here",
    ),
    **dict.fromkeys(
        ("musicgen", "musicgen_melody", "moshi", "bark", "csm", "higgs_audio_v2"),
        "it writes audio codes by several decoders or codebooks, whose caches are not described here",
    ),
    **dict.fromkeys(
        ("gemma4_assistant", "gemma4_unified_assistant", "muse_glimmer_assistant"),
        "it drafts for another model and reads that model's cache; give the configuration of that model",
    ),
    "unlimited_ocr_text": "its windows keep the prompt as well, whose share of the context no file decides",
    "diffusion_gemma_text": "it writes blocks of tokens by diffusion, and what it keeps is not described here",
    "blip_text_model": "it decodes beside an image's encoder, whose share of the cache is not described here",
    "blt": "its bytes are cached in patches, and how many patches a text has depends on the text",
    **dict.fromkeys(
        ("chameleon", "idefics", "evolla", "pi0"),
        "it reads images or proteins beside text, and its cache is not described here",
    ),
    **dict.fromkeys(
        ("rwkv", "rwkv5", "rwkv6", "rwkv7", "xlstm", "retnet"),
        "it has no keys and values at all, and its recurrent state is not described here",
    ),
    "reformer": "its LSH attention caches hidden states by bucket, which is not described here",
}
