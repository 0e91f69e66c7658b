"""What can be asked for, and how it is written in JSON: no files, no lines of files, no options.

``load_object``, ``check_text`` and ``read_request`` make a request of a text in JSON.
"""
