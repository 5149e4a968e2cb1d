from extraction.published_t2i import CLIP_G, CLIP_L, T5_XXL, VAE, shapes
from lamofcbench.spec import load_scenario

PROFILE = load_scenario("canny-t2i").profile("full")


def test_the_published_model_gives_what_the_full_profile_declares() -> None:
    declared = {key.name: (key.shape, key.captured) for key in PROFILE.keys}
    assert shapes(PROFILE) == declared


def test_shapes_follow_the_configurations() -> None:
    import transformers

    from lamofcbench.models.t2i import key_shapes

    clips = [transformers.CLIPTextConfig(**kind) for kind in (CLIP_L, CLIP_G)]

    class Vae:
        block_out_channels = VAE["block_out_channels"]
        latent_channels = VAE["latent_channels"]

    found = key_shapes(clips, transformers.T5Config(**T5_XXL), Vae, 1024, 77)
    assert found == {key.name: key.shape for key in PROFILE.keys}
