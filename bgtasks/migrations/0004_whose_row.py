from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("bgtasks", "0003_results"),
    ]

    operations = [
        migrations.AddField(
            model_name="progress",
            name="claim",
            field=models.CharField(
                help_text="What the row's locked_by was.", max_length=64, null=True
            ),
        ),
        migrations.AddField(
            model_name="progress",
            name="claim_of",
            field=models.DateTimeField(
                help_text="The updated_at of what the claim was stored with.", null=True
            ),
        ),
        migrations.AddField(
            model_name="uniquekey",
            name="task_hash",
            field=models.CharField(help_text="That of the row.", max_length=40, null=True),
        ),
        migrations.AddField(
            model_name="uniquekey",
            name="hash_of",
            field=models.BigIntegerField(
                help_text="The nonce of the call that stored the hash.", null=True
            ),
        ),
    ]
