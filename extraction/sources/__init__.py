"""Data sources, one data set a file."""

from lamofcbench.registry import Registry

__all__ = ["SOURCES"]

SOURCES = Registry(
    "source",
    {
        "arc": "extraction.sources.arc:Arc",
        "gsm8k": "extraction.sources.gsm8k:Gsm8k",
        "hellaswag": "extraction.sources.hellaswag:Hellaswag",
        "truthfulqa": "extraction.sources.truthfulqa:Truthfulqa",
        "winogrande": "extraction.sources.winogrande:Winogrande",
        "toy_arc": "extraction.sources.toy_arc:ToyArc",
        "toy_gsm8k": "extraction.sources.toy_gsm8k:ToyGsm8k",
        "toy_hellaswag": "extraction.sources.toy_hellaswag:ToyHellaswag",
        "toy_truthfulqa": "extraction.sources.toy_truthfulqa:ToyTruthfulqa",
        "toy_winogrande": "extraction.sources.toy_winogrande:ToyWinogrande",
        "coco": "extraction.sources.coco:Coco",
        "digits": "extraction.sources.digits:Digits",
        "digits_t2i": "extraction.sources.digits_t2i:DigitsT2i",
        "digit_variants": "extraction.sources.digit_variants:DigitVariants",
        "digit_scenes": "extraction.sources.digit_scenes:DigitScenes",
        "digit_rooms": "extraction.sources.digit_rooms:DigitRooms",
        "imagenet": "extraction.sources.imagenet:ImageNet",
        "imagenet_a": "extraction.sources.imagenet_a:ImageNetA",
        "imagenet_r": "extraction.sources.imagenet_r:ImageNetR",
        "ade20k": "extraction.sources.ade20k:Ade20k",
        "nyuv2": "extraction.sources.nyuv2:NyuV2",
        "vqav2": "extraction.sources.vqav2:VqaV2",
        "digits_vqa": "extraction.sources.digits_vqa:DigitsVqa",
        "librispeech": "extraction.sources.librispeech:Librispeech",
        "voicebench_advbench": "extraction.sources.voicebench:VoicebenchAdvbench",
        "voicebench_openbookqa": "extraction.sources.voicebench:VoicebenchOpenbookqa",
        "voicebench_sdqa": "extraction.sources.voicebench:VoicebenchSdqa",
        "toy_librispeech_clean": "extraction.sources.toy_librispeech_clean:ToyLibrispeechClean",
        "toy_librispeech_other": "extraction.sources.toy_librispeech_other:ToyLibrispeechOther",
        "toy_advbench": "extraction.sources.toy_advbench:ToyAdvbench",
        "toy_openbookqa": "extraction.sources.toy_openbookqa:ToyOpenbookqa",
        "toy_sdqa": "extraction.sources.toy_sdqa:ToySdqa",
    },
)
