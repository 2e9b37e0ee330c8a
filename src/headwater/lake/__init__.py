"""Lakes: one port (`base`), two adapters (`local`, `lakefs`), and the grammar of refs."""
