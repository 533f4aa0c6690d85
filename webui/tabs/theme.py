"""The page's look: Gradio's base theme with the system's fonts and one accent colour.

Only what Gradio's theme variables can say is said here; the rest is in `style.css`. Fonts are the system's own, so that
no page ever asks another host for one.
"""

from __future__ import annotations

import gradio as gr
from gradio.themes.utils import colors, sizes

TEXT_FONTS = ["system-ui", "-apple-system", "Segoe UI", "Roboto", "Noto Sans", "Helvetica Neue", "Arial", "sans-serif"]
CODE_FONTS = ["ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "Liberation Mono", "monospace"]


def build_theme() -> gr.themes.Base:
    """The theme to hand to Gradio when the page is mounted."""
    return gr.themes.Base(
        primary_hue=colors.teal,
        secondary_hue=colors.teal,
        neutral_hue=colors.slate,
        text_size=sizes.text_md,
        spacing_size=sizes.spacing_sm,
        radius_size=sizes.radius_md,
        font=TEXT_FONTS,
        font_mono=CODE_FONTS,
    ).set(
        body_background_fill="#ffffff",
        body_background_fill_dark="#14171c",
        background_fill_secondary="#f6f7f9",
        background_fill_secondary_dark="#1a1e24",
        block_background_fill="*background_fill_primary",
        block_background_fill_dark="*background_fill_primary",
        background_fill_primary_dark="#171b20",
        block_border_width="0px",
        block_shadow="none",
        block_label_background_fill="transparent",
        block_label_background_fill_dark="transparent",
        block_title_text_weight="500",
        block_info_text_size="*text_xs",
        input_background_fill="*background_fill_primary",
        input_background_fill_dark="#1f242b",
        input_border_width="1px",
        input_border_color="*neutral_300",
        input_border_color_dark="#353c46",
        border_color_primary="*neutral_200",
        border_color_primary_dark="#2a3038",
        button_primary_background_fill="*primary_700",
        button_primary_background_fill_hover="*primary_800",
        button_primary_background_fill_dark="*primary_700",
        button_primary_background_fill_hover_dark="*primary_600",
        button_primary_text_color="white",
        button_secondary_background_fill="*background_fill_secondary",
        button_secondary_background_fill_dark="#232932",
        button_small_text_weight="500",
        slider_color="*primary_600",
        slider_color_dark="*primary_500",
    )
