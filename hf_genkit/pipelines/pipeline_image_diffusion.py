"""Pictures from diffusion and flow models: plain, by class, from text, inpainted, from other pictures, enlarged."""

import inspect
import json
import shutil
from functools import partial
from itertools import pairwise
from pathlib import Path

import diffusers
import torch
from diffusers.image_processor import VaeImageProcessor
from diffusers.utils.torch_utils import randn_tensor
from torch.nn import functional
from transformers import AutoModel, PreTrainedModel


INDEXED = (diffusers.FlowMatchEulerDiscreteScheduler, diffusers.EDMEulerScheduler)
# A step of these depends on nothing but the state and its place in the schedule, so it can be taken again.
REPEATABLE = (diffusers.DDPMScheduler, diffusers.DDIMScheduler, *INDEXED)


class ImageDiffusionPipeline(diffusers.DiffusionPipeline):
    """
    What the pipelines of this file share. Each loads what another one or a stock `DDPMPipeline` saved. The state and
    the scheduler's arithmetic are float32; the network runs in its own dtype. The null class is the last of a
    UNet's `num_class_embeds`, or the index `num_embeds_ada_norm` of a DiT. What doesn't fit raises a `ValueError`.

    Args:
        unet (`UNet2DModel`, `UNet2DConditionModel` or `DiTTransformer2DModel`): The network.
        scheduler (`SchedulerMixin`): Any one of diffusers that suits what the network predicts.
        vae (`AutoencoderKL` or `VAEModel`, *optional*): Draws pictures from latents / `vae.config.scaling_factor`.
        text_encoder, tokenizer (*optional*): A `UNet2DConditionModel` attends to the encoder's `last_hidden_state`.
        id2label (`dict[int, str]`, *optional*): Names of the classes.
        latents_of, defaults (*optional*): Subfolder of a transformers VAE, set by itself; settings of a shorter call.

    Settings of every call:
        num_inference_steps (`int`, *optional*, defaults to 50): Steps from noise to picture.
        guidance_scale (`float`, *optional*, defaults to 2.0, with texts to 5.0): Of u + scale (c - u), the outputs with
            and without a condition (Ho and Salimans, 2022); 1 is c alone, at half of the cost.
        seed (`int` or `list[int]`, *optional*): Picture i draws all its noise from a generator of its own, seeded with
            `seed + i` or `seed[i]`, so that it doesn't depend on `batch_size`.
        generator (`torch.Generator` or a list of them, *optional*): Draws the noise; a list has one a picture.
        eta (`float`, *optional*, defaults to 0.0): Share of noise in the steps of a `DDIMScheduler`, from 0 to 1.
        batch_size (`int`, *optional*, defaults to all): Pictures at a time.
        output_type, return_dict (*optional*): `"pil"`, `"pt"` or `"np"` in [0, 1]; with `False` a tuple is returned.
        callback_on_step_end (*optional*): Called with the pipeline, the step, its time and `{"latents": state}`.
    """

    _optional_components = ["vae", "text_encoder", "tokenizer"]  # noqa: RUF012
    model_cpu_offload_seq = "text_encoder->unet->vae"
    inputs_per_output = 1

    def __init__(
        self, unet, scheduler, vae=None, text_encoder=None, tokenizer=None, id2label=None, latents_of=None,
        defaults=None,
    ):  # fmt: skip
        super().__init__()
        config, network, kind = unet.config, type(unet).__name__, type(scheduler).__name__
        require(isinstance(scheduler, diffusers.SchedulerMixin), f"`scheduler` is a {kind}, not one of diffusers.")
        latents_of = latents_of if vae is None else "vae" if isinstance(vae, PreTrainedModel) else None
        id2label = None if id2label is None else {int(index): name for index, name in id2label.items()}
        self.register_modules(unet=unet, scheduler=scheduler, vae=vae, text_encoder=text_encoder, tokenizer=tokenizer)
        self.register_to_config(id2label=id2label, latents_of=latents_of, defaults=defaults)
        size, channels = config.sample_size, config.out_channels or config.in_channels
        require(size is not None, f"`sample_size` of the {network} is None, but it must be the size to draw.")
        given, needed = config.in_channels, self.inputs_per_output * channels
        require(given == needed, f"The {network} takes {given} channels, but a {type(self).__name__} gives {needed}.")
        self.latent_shape = torch.Size([channels, *([size] * 2 if isinstance(size, int) else size)])
        self.image_shape = self.latent_shape if vae is None else self._check_vae(network)
        self.num_classes = config.get("num_embeds_ada_norm", (config.get("num_class_embeds") or 1) - 1)
        names = len(id2label or {})
        require(names <= self.num_classes, f"`id2label` names {names} of the network's {self.num_classes} classes.")
        reads, partners = "cross_attention_dim" in config, (text_encoder is None) + (tokenizer is None)
        require(partners != 1, "`text_encoder` and `tokenizer` go together, but one of them is None.")
        given, needed = "a" if partners == 0 else "no", "needs one" if reads else "takes none"
        require(reads == (partners == 0), f"There is {given} text encoder, but a {network} {needed}.")
        self.usual = {"num_inference_steps": 50, "guidance_scale": 5.0 if reads else 2.0} | (defaults or {})
        if reads:
            width, hidden = config.cross_attention_dim, text_encoder.config.hidden_size
            most = tokenizer.model_max_length
            require(width == hidden, f"`cross_attention_dim` is {width}, but the text encoder's width is {hidden}.")
            require(most < 100_000, f"`tokenizer.model_max_length` is {most}, but every prompt is padded to it.")

    def _check_vae(self, network: str) -> torch.Size:
        """The shape of the VAE's pictures."""
        config, kind, (channels, height, width) = self.vae.config, type(self.vae).__name__, self.latent_shape
        values = config.to_dict() if (own := isinstance(self.vae, PreTrainedModel)) else config
        require("scaling_factor" in values, f"The config of the {kind} has no `scaling_factor`.")
        name, drawn = ("latent_dim", channels * height * width) if own else ("latent_channels", channels)
        fits = values.get(name) == drawn
        require(fits, f"`{name}` of the {kind} is {values.get(name)}, but the {network} draws {drawn}.")
        if own:
            return torch.Size([config.num_channels, config.image_size, config.image_size])
        factor = 2 ** (len(config.block_out_channels) - 1)
        return torch.Size([config.in_channels, height * factor, width * factor])

    def save_pretrained(self, save_directory, safe_serialization: bool = True, **kwargs):
        """As for every pipeline, with this file beside it, for `DiffusionPipeline` with `trust_remote_code=True`."""
        require(safe_serialization, "`safe_serialization` is False, but weights are saved as safetensors alone.")
        super().save_pretrained(save_directory, **kwargs)

    def save_config(self, save_directory):
        """The last thing that `save_pretrained` calls before it uploads."""
        super().save_config(save_directory)
        path = Path(save_directory, self.config_name)
        index = json.loads(path.read_text(encoding="utf-8"))
        index["_class_name"] = [Path(__file__).stem, type(self).__name__]
        index |= {} if self.config.latents_of is None else {"vae": [None, None]}
        path.write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")
        # transformers looks for the code of a model in a subfolder beside that subfolder.
        for code in (Path(__file__), *path.parent.glob(f"{self.config.latents_of}/*.py")):
            shutil.copyfile(code, path.with_name(code.name))

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path, **kwargs):
        """As for every pipeline; a VAE that is a transformers model is loaded, too, and safetensors alone are read."""
        options = ("cache_dir", "force_download", "local_files_only", "revision", "token")
        options = {name: kwargs[name] for name in options if name in kwargs}
        folder = cls.load_config(pretrained_model_name_or_path, **options).get("latents_of")
        if folder is not None and "vae" not in kwargs:
            options["trust_remote_code"] = kwargs.get("trust_remote_code", False)
            kwargs["vae"] = AutoModel.from_pretrained(pretrained_model_name_or_path, subfolder=folder, **options)
        return super().from_pretrained(pretrained_model_name_or_path, **{**kwargs, "use_safetensors": True})

    @classmethod
    def from_pipe(cls, pipeline, **kwargs):
        """A pipeline with the components of another one, in their dtypes, or with those in `kwargs`."""
        known = {**pipeline.config, **pipeline.components}
        return cls(**({name: known[name] for name in inspect.signature(cls).parameters if name in known} | kwargs))

    @classmethod
    def _dict_from_json_file(cls, json_file):
        # A list here would make diffusers run the folder's own code in place of the class that was asked for.
        return super()._dict_from_json_file(json_file) | {"_class_name": cls.__name__}

    @torch.no_grad()
    def _generate(
        self, count, *, num_inference_steps, guidance_scale, class_labels=None, prompt=None, image=None, strength=1.0,
        mask=None, jumps=None, low=None, seed=None, generator=None, eta=0.0, batch_size=None,
        output_type="pil", return_dict=True, callback_on_step_end=None,
    ):  # fmt: skip
        """`count` pictures: from noise, from `image` (by `strength`), around what `mask` leaves of it (`jumps` is for
        `repaint_walk`), or from enlarged ones (`low`). Lists and tensors have one entry a picture."""
        scheduler, labels, batch_size = self.scheduler, class_labels, count if batch_size is None else batch_size
        missing = self.config.latents_of if self.vae is None else None
        code = f"AutoModel.from_pretrained('{self.name_or_path}', subfolder='{missing}', trust_remote_code=True)"
        require(missing is None, f"The VAE of these latents is not loaded; pass vae={code} to `from_pretrained`.")
        for name, value in (("number of pictures", count), ("batch size", batch_size)):
            require(value >= 1, f"The {name} is {value}, but it must be 1 or more.")
        require(output_type in ("pil", "pt", "np"), f"`output_type` is '{output_type}', but not 'pil', 'pt' or 'np'.")
        require(guidance_scale >= 0, f"`guidance_scale` is {guidance_scale}, but it must be 0 or more.")
        require(prompt is None or self.text_encoder, f"`prompt` is {prompt}, but there is no text encoder.")
        if labels is not None:
            names = {name: index for index, name in (self.config.id2label or {}).items()}
            allowed = f"from 0 to {self.num_classes - 1}" + (f" or one of {list(names)}" if names else "")
            allowed = allowed if self.num_classes else "left out, as the model has no classes"
            labels = [names.get(label, label) for label in labels]
            for label in labels:
                require(label in range(self.num_classes), f"A class label is {label!r}, but it must be {allowed}.")
        accepted = inspect.signature(scheduler.step).parameters
        most_eta = 1 if "eta" in accepted else 0
        require(0 <= eta <= most_eta, f"`eta` is {eta}, but a {type(scheduler).__name__} takes 0 to {most_eta}.")
        require(seed is None or generator is None, "`seed` and `generator` are both given, but one draws all noise.")
        if seed is not None:
            seeds = range(seed, seed + count) if isinstance(seed, int) else seed
            generator = [torch.Generator().manual_seed(value) for value in seeds]
        given = len(generator) if isinstance(generator, list) else count
        require(given == count, f"There are {given} seeds or generators, but {count} pictures.")
        last = self.set_timesteps(num_inference_steps)
        first = (num_inference_steps - max(round(strength * num_inference_steps), 1)) * scheduler.order
        walk = list(range(first, last + 1)) if jumps is None else repaint_walk(last, *jumps)
        scale = 1.0 if labels is None and prompt is None else guidance_scale
        for module in filter(None, (self.unet, self.vae, self.text_encoder)):
            module.eval()
        pictures, starts, tell = [], range(0, count, batch_size), callback_on_step_end or (lambda *_: None)
        with self.progress_bar(total=len(starts) * sum(there > here for here, there in pairwise(walk))) as bar:
            report = lambda index, t, x: (bar.update(), tell(self, index, t, {"latents": x}))  # noqa: E731
            for start in starts:
                part = slice(start, start + batch_size)
                rows = [value if value is None else value[part] for value in (image, mask, low, labels, prompt)]
                own = generator[part] if isinstance(generator, list) else generator
                options = {name: v for name, v in (("eta", eta), ("generator", own)) if name in accepted}
                self.set_timesteps(num_inference_steps)  # also forgets the last pictures
                shape = (len(range(count)[part]), *self.latent_shape)
                draw = partial(randn_tensor, shape, own, self._execution_device, torch.float32)
                network = partial(self._predict, scale=scale, condition=self._condition(shape[0], *rows[3:], scale))
                pictures.append(self._draw(draw, network, walk, options, *rows[:3], report))
        images = VaeImageProcessor(do_resize=False).postprocess(torch.cat(pictures), output_type)
        return diffusers.ImagePipelineOutput(images=images) if return_dict else (images,)

    def _draw(self, draw, network, walk, options, image, mask, low, report) -> torch.Tensor:
        """One batch of pictures in [-1, 1], along the levels of `walk`."""
        scheduler, x = self.scheduler, draw()
        known = image if image is None or self.vae is None else self._encode(image)
        # Schedulers share no interface; what some of them lack is asked for. DDIM takes the noise of what it clips.
        options |= {"use_clipped_model_output": True} if isinstance(scheduler, diffusers.DDIMScheduler) else {}
        if hasattr(scheduler, "set_begin_index"):
            scheduler.set_begin_index(walk[0])
        if image is None or mask is not None:
            x = x * (scheduler.init_noise_sigma if hasattr(scheduler, "init_noise_sigma") else 1)
        elif isinstance(scheduler, diffusers.FlowMatchEulerDiscreteScheduler):
            x = scheduler.scale_noise(known, scheduler.timesteps[walk[0]][None], x)
        else:
            x = scheduler.add_noise(known, x, scheduler.timesteps[walk[0]][None])
        if mask is not None:
            levels = self._levels()
            cells = functional.adaptive_max_pool2d(mask.float(), self.latent_shape[1:]) > 0
        for here, there in pairwise(walk):
            if there < here:
                ratio, sigma = levels[there][0] / levels[here][0], levels[there][1]
                x = ratio * x + (sigma**2 - (ratio * levels[here][1]) ** 2) ** 0.5 * draw()
                continue
            if isinstance(scheduler, INDEXED):
                scheduler._step_index = here
            t = scheduler.timesteps[here]
            scaled = scheduler.scale_model_input(x, t) if hasattr(scheduler, "scale_model_input") else x
            output = network(scaled if low is None else torch.cat([scaled, low], dim=1), t)
            x = scheduler.step(output, t, x, **options).prev_sample
            if mask is not None:
                alpha, sigma = levels[there]
                x = torch.where(cells, x, alpha * known + sigma * draw())
            report(here, t, x)
        pictures = x if self.vae is None else self._decode(x)
        return pictures if mask is None else torch.where(mask, pictures, image)

    def _predict(self, x: torch.Tensor, t: torch.Tensor, scale: float, condition: dict) -> torch.Tensor:
        """The network's output in float32, with guidance where `scale` is not 1 (Ho and Salimans, 2022)."""
        x = (x if scale == 1 else torch.cat([x, x])).to(self.unet.dtype)
        output = self.unet(x, t.expand(len(x)), **condition).sample.float()
        if scale == 1:
            return output
        plain, conditional = output.chunk(2)
        return plain + scale * (conditional - plain)

    def _condition(self, size: int, labels: list | None, prompt: list | None, scale: float) -> dict:
        """What the network is told beside the time; with guidance, what it is told without a condition comes first."""
        condition, plain, device = {}, 0 if scale == 1 else size, self._execution_device
        if self.num_classes:
            labels = [self.num_classes] * plain + (labels or [self.num_classes] * size)
            condition["class_labels"] = torch.tensor(labels, device=device)
        if self.text_encoder is not None:
            texts = [""] * plain + (prompt or [""] * size)
            options = {"padding": "max_length", "max_length": self.tokenizer.model_max_length, "truncation": True}
            tokens = self.tokenizer(texts, return_tensors="pt", **options).to(device)
            hidden = self.text_encoder(tokens.input_ids, attention_mask=tokens.attention_mask).last_hidden_state
            condition["encoder_hidden_states"] = hidden.to(self.unet.dtype)
            condition["encoder_attention_mask"] = tokens.attention_mask
        return condition

    def set_timesteps(self, number: int) -> int:
        scheduler, device, most = self.scheduler, self._execution_device, self.scheduler.config.num_train_timesteps
        require(1 <= number <= most, f"`num_inference_steps` is {number}, but it must be from 1 to {most}.")
        if isinstance(scheduler, diffusers.FlowMatchEulerDiscreteScheduler):
            # Its own choice ends at sigma 1 / num_train_timesteps and spends the last call on a step of that width.
            scheduler.set_timesteps(sigmas=torch.linspace(1, 1 / number, number).tolist(), device=device)
        else:
            scheduler.set_timesteps(number, device=device)
        if scheduler.config.get("use_flow_sigmas"):
            # Their times are truncated to integers, which are not quite those of the state.
            scheduler.timesteps = scheduler.sigmas[:-1].to(device) * most
        wrong = not scheduler.timesteps.is_floating_point() and scheduler.timesteps.min() < 0
        require(not wrong, f"{type(scheduler).__name__} rounds a time to -1 for {number} steps; use another number.")
        return len(scheduler.timesteps)

    def _levels(self) -> list[tuple[float, float]]:
        """(alpha, sigma) of the state, alpha * picture + sigma * noise, before each step and after the last."""
        scheduler, flow = self.scheduler, isinstance(self.scheduler, diffusers.FlowMatchEulerDiscreteScheduler)
        if isinstance(scheduler, INDEXED):
            return [(1 - sigma if flow else 1.0, sigma) for sigma in scheduler.sigmas.tolist()]
        products = [*scheduler.alphas_cumprod[scheduler.timesteps.cpu()].tolist(), 1.0]
        return [(product**0.5, (1 - product) ** 0.5) for product in products]

    def _encode(self, images: torch.Tensor) -> torch.Tensor:
        encoded = self.vae.encode(images.to(self.vae.dtype))
        mean = encoded.latent_dist.mean if self.config.latents_of is None else encoded[0]
        return mean.float().view(-1, *self.latent_shape) * self.vae.config.scaling_factor

    def _decode(self, x: torch.Tensor) -> torch.Tensor:
        x = (x / self.vae.config.scaling_factor).to(self.vae.dtype)
        return (self.vae.decode(x).sample if self.config.latents_of is None else self.vae.decode(x.flatten(1))).float()

    def _pictures(self, image, size: torch.Size | None) -> torch.Tensor:
        """PIL pictures, or a tensor in [-1, 1], as a float32 tensor `(pictures, channels, height, width)`."""
        channels = self.image_shape[0]
        if not isinstance(image, torch.Tensor):
            grey = channels == 1
            image = VaeImageProcessor(False, do_convert_grayscale=grey, do_convert_rgb=not grey).preprocess(image)
        shape, wanted = tuple(image.shape), (channels, *(size or image.shape[2:]))
        fits = len(shape) == 4 and shape[1:] == wanted
        require(fits, f"`image` has the shape {shape}, but it must be (pictures, *{wanted}).")
        require(image.abs().max() <= 1, f"`image` has values up to {image.abs().max():.4g}, but [-1, 1] is needed.")
        return image.to(self._execution_device, torch.float32)


class UnconditionalPipeline(ImageDiffusionPipeline):
    """Pictures from noise; a model with classes or texts is given none. See [`ImageDiffusionPipeline`]."""

    def __call__(self, num_images: int = 1, **settings):
        return self._generate(num_images, **self.usual | settings)


class ClassConditionalPipeline(ImageDiffusionPipeline):
    """Pictures of given classes, by index or name, one a picture. See [`ImageDiffusionPipeline`]."""

    def __call__(self, class_labels: int | str | list | None = None, **settings):
        labels = class_labels if isinstance(class_labels, list) else [class_labels]
        return self._generate(len(labels), class_labels=labels, **self.usual | settings)


class TextToImagePipeline(ImageDiffusionPipeline):
    """Pictures of texts, one `prompt` a picture, guided against the empty text. See [`ClassConditionalPipeline`]."""

    def __call__(self, prompt: str | list[str], **settings):
        prompt = prompt if isinstance(prompt, list) else [prompt]
        return self._generate(len(prompt), prompt=prompt, **self.usual | settings)


class InpaintingPipeline(ImageDiffusionPipeline):
    """Repaints parts of pictures with any model, by RePaint (https://huggingface.co/papers/2201.09865)."""

    def __call__(
        self, image, mask_image, *, class_labels=None, prompt=None, num_images_per_image: int = 1, jump_length: int = 2,
        num_resamples: int = 4, **settings,
    ):  # fmt: skip
        """
        Args:
            image: PIL pictures of the model's size, or a tensor in [-1, 1]; one or more.
            mask_image: One for all or one a picture; white, 1 or True is repainted and the rest is kept exactly.
            class_labels, prompt (*optional*): What is drawn, for all or one a picture; by default any.
            num_images_per_image (`int`, *optional*, defaults to 1): Results for each picture, one after the other.
            jump_length, num_resamples (`int`, *optional*, defaults to 2 and 4): `jump_length` steps are undone, and
                taken `num_resamples` times in all. n steps are n + (num_resamples - 1) * jump_length *
                ceil((n - jump_length) / jump_length) calls of the network: 194 for 50.
        """
        kind, others = type(self.scheduler).__name__, "make_sampler's 'ddim', or 'euler' for flow and EDM models"
        require(isinstance(self.scheduler, REPEATABLE), f"A step of a {kind} can't be taken again; use {others}.")
        require(self.config.latents_of is None, "The VAE's latents are no grid of a picture, whose parts could stay.")
        for name, value in (("jump_length", jump_length), ("num_resamples", num_resamples)):
            require(value >= 1, f"`{name}` is {value}, but it must be 1 or more.")
        image, times = self._pictures(image, self.image_shape[1:]), num_images_per_image
        if not isinstance(mask_image, torch.Tensor):
            mask_image = VaeImageProcessor(False, do_normalize=False, do_convert_grayscale=True).preprocess(mask_image)
        shape, shapes = tuple(mask_image.shape), [(rows, 1, *image.shape[2:]) for rows in {1, len(image)}]
        require(shape in shapes, f"`mask_image` has the shape {shape}, but it must be one of {shapes}.")
        mask = (mask_image.to(image.device, torch.float32) >= 0.5).expand(len(image), -1, -1, -1)
        return self._generate(
            len(image) * times, image=image.repeat_interleave(times, 0), mask=mask.repeat_interleave(times, 0),
            jumps=(jump_length, num_resamples), class_labels=one_each(class_labels, len(image), times),
            prompt=one_each(prompt, len(image), times), **self.usual | settings,
        )  # fmt: skip


class ImageToImagePipeline(ImageDiffusionPipeline):
    """New pictures like given ones, by SDEdit (https://huggingface.co/papers/2108.01073)."""

    def __call__(self, image, *, strength=0.5, class_labels=None, prompt=None, **settings):
        """As for [`InpaintingPipeline`]; `strength`, above 0 and up to 1, is the share of the steps that are taken."""
        require(0 < strength <= 1, f"`strength` is {strength}, but it must be above 0 and at most 1.")
        image = self._pictures(image, self.image_shape[1:])
        chosen = {"class_labels": one_each(class_labels, len(image)), "prompt": one_each(prompt, len(image))}
        return self._generate(len(image), image=image, strength=strength, **chosen, **self.usual | settings)


class SuperResolutionPipeline(ImageDiffusionPipeline):
    """Enlarges pictures, whose sides divide the model's, like SR3 (https://huggingface.co/papers/2104.07636): the
    network sees, after the channels of the noisy picture, those of the given one, enlarged bicubically."""

    inputs_per_output = 2

    def __call__(self, image, **settings):
        image, (height, width) = self._pictures(image, None), self.image_shape[1:]
        rows, columns = image.shape[2:]
        fits = height % rows == 0 and width % columns == 0
        require(fits, f"`image` is {rows}x{columns}, but its sides must divide {height}x{width}.")
        low = functional.interpolate(image, size=(height, width), mode="bicubic", align_corners=False).clamp(-1, 1)
        return self._generate(len(low), low=low, **self.usual | settings)


def require(holds, sentence: str):
    if not holds:
        raise ValueError(sentence)


def one_each(values, count: int, times: int = 1) -> list | None:
    """One value for all or one for each of `count`, as a list with each of them `times` times."""
    values = values if isinstance(values, list) or values is None else [values] * count
    require(values is None or len(values) == count, f"The classes or prompts {values} are given for {count} pictures.")
    return values and [value for value in values for _ in range(times)]


def repaint_walk(steps: int, jump_length: int, num_resamples: int) -> list[int]:
    """The levels that RePaint visits, from 0 (noise) to `steps` (the picture)."""
    returns = {steps - left: num_resamples - 1 for left in range(0, steps - jump_length, jump_length)}
    levels = [0]
    while levels[-1] < steps or returns.get(steps):
        back = returns.get(levels[-1], 0) > 0
        returns[levels[-1]] = returns.get(levels[-1], 0) - back
        levels.append(levels[-1] - jump_length if back else levels[-1] + 1)
    return levels
