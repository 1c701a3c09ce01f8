from django.forms.renderers import TemplatesSetting


class SiteRenderer(TemplatesSetting):
    """Renders forms by the site's own templates. The admin has its own templates for its forms."""

    field_template_name = "field.html"
