"""What all pages share: permissions, errors, text, paging, headers."""
