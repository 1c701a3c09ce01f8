from django.forms.renderers import TemplatesSetting


class SiteRenderer(TemplatesSetting):
    """Draws the site's forms by templates of its own; the admin draws its forms itself."""

    field_template_name = "field.html"
