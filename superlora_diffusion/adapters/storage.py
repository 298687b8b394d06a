AdapterCard=None
