"""Entries of Mosquitto's password file of every kind, made by its own tools."""

# made by mosquitto_passwd 2.0.11 and 2.1.2; a broker accepted each of them
TOOL_ENTRIES = {
    "2.0.11 default": (
        b"correct horse battery staple",
        "$7$101$4sX3VvhsgO4/d2L9$pr7QEle7QBgabcEHAF4o1dHzFXJepSw85iaD4qwiOhY63evJKGlafkARRoNNenkGSaKHHoLdYx3kEx82"
        "eF/uiA==",
    ),
    "2.0.11 -I 1": (
        b"x",
        "$7$1$j8uT1DkXR+pD2/dg$5tJvGCi5JPLOE/TE/hKsU3A/sP+JZ07hJmRGYdF51ujTrlQ0PWRclatMH9s5L+hHv2mSgEuEBKk4MOdIBR"
        "tmSA==",
    ),
    "2.0.11 -I 1000": (
        b"s3cr3t",
        "$7$1000$0BX8VXO4fQ2hVq7l$DNdo2kBrRpX6K50neP0EFQZBK+WqM0XxnPmuif1agGTgl6BJIA4vtQw/gVUfAXvjA+sgrg6RUmTF7yf4"
        "TBH2Ew==",
    ),
    "2.0.11 -I 210000": (
        b"s3cr3t",
        "$7$210000$EOsS616ky7NVLGqZ$Xku7Nd7x1dMxCWrSU422YvKBTPhh35/l3VFUqbns5OrbF6OPNKsOD33LiiHD95yJwQmmFlMdqlP9A"
        "dCM0ctO2A==",
    ),
    "2.0.11 -H sha512": (
        b"s3cr3t",
        "$6$J7sbDMZgHws2e//e$DPuDtLsCvQYkGLMB7i9ZbDn4LXY0PqMbdiE5Mf4GBfUE27ljxVyGOeblampreQnZ+bq0jiHfeIBgfA1iJE+Y"
        "ew==",
    ),
    "UTF-8": (
        "pä$$wörd-☃".encode(),
        "$7$101$sEejhHS3LZIV2sIv$I9an7YpwSsHdSpmBEjXvta9Uiu9yaQ157t6DGxswMG/vbjKf0HarhXWR7+EZLwiIueb00MHC0vrC8R6a"
        "RRJRqg==",
    ),
    "UTF-8 too": (
        "grün".encode(),
        "$7$101$2awx0V35UvZOC04g$S6Vh9bHZam6HSw4T0i5jZdA2zVKbCIYXUUAcNpi6y78oxuKLxZ6eieSQi+pKt29cLj+QFeHcKuKrRogv"
        "mAUE9g==",
    ),
    "separators": (
        b"a:b:c$d #e",
        "$7$101$I5l4URyZnEbYxkhm$5ruzs/WcZxXmEHQGEFyJLcZGnCdGq9K4QXrCBOns4/yzEKuc0Rq7+Z2thuCAH3K9ByTozQuE44v9sL+e"
        "lgi3mQ==",
    ),
    "long": (
        b"L" * 1000,
        "$7$101$4Y+x9z4Mqp5dfuif$ycv/kQrRfPcBCBzHfiTe21kLi9jK/NxUgDgSrYgQ6VI0KxSluPLubZs46Sdwwu2w81+KEH8NopU1+c2a"
        "uWIEmQ==",
    ),
    "blanks": (
        b"  lead and trail  ",
        "$7$101$nfJWbMWZRqEr/6Dx$yTaCOSEZj8z9XOwTL7D8EoSaXDUG5eeoswf1nuuXweQnt1q6tz34GgONyeBfYVgBRsYPA7+F7Y8G/PXW"
        "5aiX2g==",
    ),
    "2.1.2 default": (
        b"s3cr3t",
        "$7$1000$qhsR/6fHbxQTRb8kmeJmYTxbOdP+MVeuL0CseSb/esBSSFI0yQuhsrIN+gLNk8aSAgBlF32NmtWjXz1vLQ9OyQ==$XBFafC4h"
        "jLUZTmxgZDx8hgQhqIHhYFc+L1gTI1gmLW9n4RzTQkPrLSMys95m4zLGQF3NkTDLSIpt4fc8tWPZRw==",
    ),
    "2.1.2 -H sha512": (
        b"s3cr3t",
        "$6$JjZMw/M0g+XV1yTDk2rKdyelhJkKdL+w2l4BgnK5LwBw6Sucx7IkJ9yV9P0GwRE2pBV8tLD1S66gQYbJWDJ63Q==$rLP0eulRHK42"
        "9jypJTIc95ulIgJOOhFWmHn6v0GZ9yI9ctko86PawNZoGHnWIZEKwnHyWq6LBZafkMv7dXjqZQ==",
    ),
}
SALT = "AAECAwQFBgcICQoL"
# keys of the password s3cr3t by that salt; a broker accepted each of them
REFERENCE_KEYS = {
    1: "tFKR17I4CSVtEvw6MIIrRBvn58OVjtd2AOyjQ1wVJuG4fI8F+ZeWSAgdI/Uh8tihhiqa6ukxnrG2Fl7NLfe2rw==",
    101: "/eaZjL3zkIx6G4FVj+mC6Snhs6H38Jbl780Hb87go/NTOA6QOSVoz8zcYCTV57afVJ6HW4iygHTbOoFn6h/s7g==",
    1_000: "eqsRcMWcAzQAhBHvFpVX3DBErafp1YUAsjmMYGmwgM8NlGl+9LCHRCSUmJKBkG0qsmhYNt9USjwR8Y4+zrdAjA==",
    10_000: "uuALhHY3YGOreNZQR1X6/XW/Jh4Cojhjbdbkp5mtcmOvHiYeieHcDEUbHqHAtl2wzNfK61sHQhdvurtza28c2w==",
}
SHA512_ENTRY = (
    "$6$AAECAwQFBgcICQoL$9wgzuRv7XcFgeEmhk8eqmSuEi1h2DHkfw0jx5ucHKz5sjeFLT6AR2XIsuwcbvxRaMybozZR16dOqXRlTyBUdug=="
)
ENTRY = f"$7$1000${SALT}${REFERENCE_KEYS[1_000]}"  # of the password s3cr3t
OTHER_ENTRY = (  # of the password other, by the same salt
    f"$7$1000${SALT}$0k2/yzSQu5lP3Qj7hmgIIwOOTqPChUh8fgd8t38BZTATRoz9MCJiPZXGKUQkfa5Fl7NhaDBK8wjSSg9NyDAQog=="
)
LONG_SALT_ENTRY = TOOL_ENTRIES["2.1.2 default"][1]
ARGON2_ENTRY = (
    "$argon2id$v=19$m=47104,t=1,p=1$jVox559G6LHmNKDE+kBZN8OYpLB44AYDW4rB3g1R0Dfue3xdj8wdfK2spT6qE2RnFZzYmTfvXPdV"
    "m+4odCUjyQ$R2mkKMQ0DxUyPV+raT70fod7e5TO46YfSF9Sc+YXlkxcDSI4amAPKHkUgjMy9b/8VyI23Aon+JcA+Dk9+qLaRQ"
)
