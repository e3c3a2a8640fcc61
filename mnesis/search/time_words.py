"""Words of time in English, German, French, Spanish and Chinese, as regular expressions without accents, in lower case.

Each row is a kind, a value and its words. Latin words match whole; Chinese ones match anywhere. Where two rows match, the
earlier one wins.
"""

from __future__ import annotations

import unicodedata
from typing import Any, Final

MONTH_NAMES: Final = (
    "january|januar|janner|janvier|enero",
    "february|februar|fevrier|febrero",
    "march|marz|maerz|mars|marzo",
    "april|avril|abril",
    "may|mai|mayo",
    "june|juni|juin|junio",
    "july|juli|juillet|julio",
    "august|aout|agosto",
    "september|septembre|septiembre|setiembre",
    "october|oktober|octobre|octubre",
    "november|novembre|noviembre",
    "december|dezember|decembre|diciembre",
)
"""The months in order. "may" and "mars" have other meanings; see `mnesis.search.dates`."""

_GERMAN_PARTS = "morgen|vormittag|mittag|nachmittag|abend|nacht"
_CHINESE_UNIT = "(?=个?(?:天|日|周|星期|礼拜|月|年|小时|分钟))"

DAY_PARTS: Final[dict[str, tuple[int, int]]] = {
    "morning": (4, 12),
    "noon": (11, 15),
    "afternoon": (12, 18),
    "evening": (17, 24),
    "night": (19, 30),
}
"""The hours of parts of the day, counted from midnight. They overlap, as the words do."""

A_FEW: Final = 0
"""The value of numbers such as "a few"."""

TIME_WORDS: Final[tuple[tuple[str, Any, str], ...]] = (
    ("future", None, "day after tomorrow|tomorrow|ubermorgen|apres-demain|demain|pasado manana|明天|后天"),
    ("day", -2, "day before yesterday|vorgestern|avant-hier|anteayer|antier|antes de ayer|前天"),
    ("day", -1, "yesterday|gestern|ayer|昨天|昨日|昨(?=晚|夜)"),
    ("hier", -1, "hier"),
    ("day", 0, "today|heute|aujourd.hui|hoy|今天|今日|今(?=晚|早)"),
    ("day and part", (-1, "night"), "last night|anoche"),
    ("day and part", (0, "evening"), "tonight"),
    ("last unit", "year", "去年"),
    ("last unit", "week", "上个?(?=(?:周|星期|礼拜)[一二三四五六日天])"),
    ("this unit", "year", "今年"),
    ("weekend", None, "weekends?|wochenende[ns]?|week-end|fin de semana|fines de semana|周末"),
    *(
        ("weekday", number, f"{latin}|(?:周|星期|礼拜)(?:{chinese})")
        for number, (latin, chinese) in enumerate(
            (
                (f"mondays?|montags?(?=\\b|{_GERMAN_PARTS})|lundis?|lunes", "一"),
                (f"tuesdays?|dienstags?(?=\\b|{_GERMAN_PARTS})|mardis?|martes", "二"),
                (f"wednesdays?|mittwochs?(?=\\b|{_GERMAN_PARTS})|mercredis?|miercoles", "三"),
                (f"thursdays?|donnerstags?(?=\\b|{_GERMAN_PARTS})|jeudis?|jueves", "四"),
                (f"fridays?|freitags?(?=\\b|{_GERMAN_PARTS})|vendredis?|viernes", "五"),
                (f"saturdays?|samstags?(?=\\b|{_GERMAN_PARTS})|sonnabends?|samedis?|sabados?", "六"),
                (f"sundays?|sonntags?(?=\\b|{_GERMAN_PARTS})|dimanches?|domingos?", "[日天]"),
            )
        )
    ),
    *(("month", number, names) for number, names in enumerate(MONTH_NAMES, 1)),
    ("part", "morning", "mornings?|morgens?|vormittags?|fruh|matin|matinee|manana|早上|早晨|上午|早"),
    ("part", "noon", "noon|midday|mittags?|midi|mediodia|中午"),
    ("part", "afternoon", "afternoons?|nachmittags?|apres-midi|tarde|下午"),
    ("part", "evening", "evenings?|abends?|soir|soiree|晚上|傍晚|晚"),
    ("part", "night", "nights?|nachts?|nuit|noche|夜里|半夜|夜"),
    ("ago", None, "ago|earlier|(?<=[天日周期拜月年时钟])(?:之前|以前|前)"),
    ("ago before", None, "il y a|hace"),
    ("vor", None, "vor"),
    ("since", None, "since|seit|depuis|desde|自从|自"),
    ("before", None, "before|until|bis|avant|jusqu.a|antes(?: de)?|hasta"),
    ("after", None, "after|nach|apres|despues(?: de)?"),
    ("next", None, "next|coming|nachste[nrms]?|kommende[nrms]?|prochaine?s?|proxim[oa]s?|que viene|下个?"),
    ("last", None, "last|previous|past|letzte[nrms]?|vergangene[nrms]?|vorige[nrms]?|vorletzte[nrms]?|dernieres?|derniers?"
     "|passee?s?|pasad[oa]s?|ultim[oa]s?|最近|过去|上个?"),
    ("this", None, "this|diese[nrms]?|cette|cet|ces?|esta|este|这个?|本"),
    ("number", A_FEW, "(?:a )?few|a couple(?: of)?|several|(?:ein )?paar|einigen?|mehreren?|quelques|un[oa]s(?: poc[oa]s)?|pocos"
     f"|几{_CHINESE_UNIT}"),
    *(
        ("number", number, f"{latin}|(?:{chinese}){_CHINESE_UNIT}")
        for number, (latin, chinese) in enumerate(
            (
                ("an?|one|eine[mrns]?|ein|une?|un[oa]?", "一"), ("two|zwei|deux|dos", "二|两"), ("three|drei|trois|tres", "三"),
                ("four|vier|quatre|cuatro", "四"), ("five|funf|cinq|cinco", "五"), ("six|sechs|seis", "六"),
                ("seven|sieben|sept|siete", "七"), ("eight|acht|huit|ocho", "八"), ("nine|neun|neuf|nueve", "九"),
                ("ten|zehn|dix|diez", "十"), ("eleven|elf|onze|once", "十一"), ("twelve|zwolf|douze|doce", "十二"),
            ),
            1,
        )
    ),
    ("number", int, f"[0-9]{{1,3}}|[0-9]{{1,3}}{_CHINESE_UNIT}"),
    ("unit", "minute", "minutes?|minuten?|minutos?|分钟"),
    ("unit", "hour", "hours?|stunden?|heures?|horas?|个?小时"),
    ("unit", "day", "days?|tage?n?|jours?|dias?|天"),
    ("unit", "week", "weeks?|wochen?|semaines?|semanas?|个?星期|个?礼拜|周"),
    ("unit", "month", "months?|monate?n?|monats|mois|mes|meses|个?月"),
    ("unit", "year", "years?|jahre?n?|jahrs|ans?|annees?|anos?|年"),
)  # fmt: skip

GLUE_WORDS: Final = frozenset(
    "the of on in at during am im an der die das den dem des zum la le les l el los las de du del por en au a".split()  # noqa: SIM905
)
GLUE: Final = rf"(?:[\s,'’-]|\b(?:{'|'.join(sorted(GLUE_WORDS))})\b|[的在于个])*"
"""What may separate the words of one expression."""

GERMAN_WORDS: Final = r"\b(?:der|die|das|ist|sind|wo|wer|was|wir|ich|und|nicht|ein|eine|hat|haben|steht|liegt)\b"
"""Words of German, in which "hier" means "here"; in French it means "yesterday"."""

QUESTION_VERBS: Final = frozenset(
    """happen happened happening discuss discussed talk talked chat chatted speak spoke decide decided work worked passiert
    geschehen geschah machte machten tat taten los besprochen gesprochen geredet gemacht getan gesagt war waren haben hatten wir uns parle parlons discute fait fais
    faites faisons passe quoi dit avons avez nous vous pasa paso ocurrio sucedio hice hizo haciamos hablamos hablado dicho dijimos hicimos hecho hemos""".split()  # noqa: SIM905
)
"""Words that say no more than that something was said or done, without accents. A question of these and a time is about the time."""

CHINESE_QUESTION_WORDS: Final = (
    "我们|你们|他们|我|你|他|她|讨论|聊|谈|说|做|发生|决定|什么|哪些|怎么样?|事情?|了|过|吗|呢|都|的|在|是|有|到"
)
"""The same for Chinese, which sets no spaces."""


def plain_text(text: str) -> str:
    """Return the text in lower case and without accents, with each character at its place."""
    if text.isascii():
        return text.lower()
    return "".join(unicodedata.normalize("NFD", char)[0].lower()[0] for char in text)
