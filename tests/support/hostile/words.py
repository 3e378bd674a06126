"""What a stranger writes who wants more than to be read."""

# the title, the clipboard, the screen, colours that nothing of ours has, and a C1 control
COMMANDS = "\x1b]0;owned\x07\x1b]52;c;b3duZWQ=\x07\x1b[2J\x1b[8;41m\x1b[?1000h\x1bc\x9b8m"
CONTROLS = "\a\b\v\f\r\x7f\x85\x9b"
UNSEEN = "\u202egnp.\u200b\u2066\ufeff\u2028\u00ad\U000e0041\u3164\ufe0f\u115f"
MARKUP = "[bold red]owned[/] [link=https://owned.invalid]x[/link]"
LONG = "x" * 3000
NOT_UTF_8 = b"\xff\xfe\xed\xa0\x80"

ALL = COMMANDS + CONTROLS + UNSEEN + MARKUP

# as the beginning of COMMANDS is shown
SEEN_AS_TEXT = r"\x1b]0;owned"
SEEN_AS_JSON = r"\u001b]0;owned"

DEVICES = (
    *(words.encode() for words in (COMMANDS, CONTROLS, UNSEEN, MARKUP, LONG, f"a\n{COMMANDS}\n\t")),
    NOT_UTF_8,
    b"nul\0",
    b"plain",
)
PAYLOADS = (
    ALL.encode(),
    b'{"'
    + UNSEEN.encode()
    + rb'\u001b]0;owned\u0007":"\u001b]0;owned\u0007\u009b\u202e\ud800","x":"'
    + b'\x7f\xc2\x9b"}',
    rb'["\u001b[2J"]',
    NOT_UTF_8 + COMMANDS.encode(),
    b"{" + b'"a":[' * 2000,
    LONG.encode() * 30,
    b"9" * 5000,
    b"\r\n" * 100 + b"\0\0\0",
    b'{"error":"' + MARKUP.encode() + b'"}',
)

# no ":" and no line break, which end a name in a password file
USERS = (
    *(words.replace("\r", "").encode() for words in (COMMANDS, UNSEEN, MARKUP.replace(":", ""))),
    NOT_UTF_8,
    b"plain",
)
