"""The gate that every alert must pass: complete, true to what costwarden exports, tested in every way, by cases that notice a change."""
