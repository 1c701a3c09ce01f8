"""The least that each system needs: its settings, a task that does nothing, a way to fill."""
