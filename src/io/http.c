/* Tables: one bit per byte value for tokens, one row per status. */
#include "io/http.h"

/* RFC 9110, 5.6.2. */
static const bool token_bytes[256] = {
	['!'] = true,
	['#'] = true,
	['$'] = true,
	['%'] = true,
	['&'] = true,
	['\''] = true,
	['*'] = true,
	['+'] = true,
	['-'] = true,
	['.'] = true,
	['^'] = true,
	['_'] = true,
	['`'] = true,
	['|'] = true,
	['~'] = true,
	['0' ... '9'] = true,
	['A' ... 'Z'] = true,
	['a' ... 'z'] = true,
};

size_t http_token_len(struct slice text)
{
	size_t len = 0;

	while (len < text.len && token_bytes[(unsigned char)text.data[len]])
		len++;
	return len;
}

bool http_is_token(struct slice text)
{
	return text.len > 0 && http_token_len(text) == text.len;
}

static char lower(char c)
{
	return c >= 'A' && c <= 'Z' ? (char)(c | 0x20) : c;
}

bool http_equal_nocase_len(struct slice a, const char *b, size_t b_len)
{
	if (a.len != b_len)
		return false;
	for (size_t i = 0; i < a.len; i++)
		if (a.data[i] != b[i] && lower(a.data[i]) != lower(b[i]))
			return false;
	return true;
}

const struct slice *http_header_find(const struct http_header *headers, size_t count, const char *name)
{
	size_t len = strlen(name);

	for (size_t i = 0; i < count; i++)
		if (headers[i].name.len == len && http_equal_nocase_len(headers[i].name, name, len))
			return &headers[i].value;
	return NULL;
}

static bool list_has_word(struct slice list, const char *word)
{
	for (size_t at = 0; at < list.len;) {
		const char *comma = memchr(list.data + at, ',', list.len - at);
		size_t end = comma ? (size_t)(comma - list.data) : list.len, from = at, to = end;

		while (from < to && (list.data[from] == ' ' || list.data[from] == '\t'))
			from++;
		while (to > from && (list.data[to - 1] == ' ' || list.data[to - 1] == '\t'))
			to--;
		if (http_equal_nocase(slice_make(list.data + from, to - from), word))
			return true;
		at = end + 1;
	}
	return false;
}

bool http_header_has_word(const struct http_header *headers, size_t count, const char *name, const char *word)
{
	for (size_t i = 0; i < count; i++)
		if (http_equal_nocase(headers[i].name, name) && list_has_word(headers[i].value, word))
			return true;
	return false;
}

const char *http_status_text(int status)
{
	static const struct {
		int status;
		const char *text;
	} rows[] = {
		{100, "Continue"},
		{101, "Switching Protocols"},
		{200, "OK"},
		{201, "Created"},
		{202, "Accepted"},
		{203, "Non-Authoritative Information"},
		{204, "No Content"},
		{205, "Reset Content"},
		{206, "Partial Content"},
		{300, "Multiple Choices"},
		{301, "Moved Permanently"},
		{302, "Found"},
		{303, "See Other"},
		{304, "Not Modified"},
		{307, "Temporary Redirect"},
		{308, "Permanent Redirect"},
		{400, "Bad Request"},
		{401, "Unauthorized"},
		{402, "Payment Required"},
		{403, "Forbidden"},
		{404, "Not Found"},
		{405, "Method Not Allowed"},
		{406, "Not Acceptable"},
		{407, "Proxy Authentication Required"},
		{408, "Request Timeout"},
		{409, "Conflict"},
		{410, "Gone"},
		{411, "Length Required"},
		{412, "Precondition Failed"},
		{413, "Request Entity Too Large"},
		{414, "Request URI Too Long"},
		{415, "Unsupported Media Type"},
		{416, "Requested Range Not Satisfiable"},
		{417, "Expectation Failed"},
		{421, "Misdirected Request"},
		{422, "Unprocessable Entity"},
		{426, "Upgrade Required"},
		{428, "Precondition Required"},
		{429, "Too Many Requests"},
		{431, "Request Header Fields Too Large"},
		{500, "Internal Server Error"},
		{501, "Not Implemented"},
		{502, "Bad Gateway"},
		{503, "Service Unavailable"},
		{504, "Gateway Timeout"},
		{505, "HTTP Version Not Supported"},
		{507, "Insufficient Storage"},
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++)
		if (rows[i].status == status)
			return rows[i].text;
	return "";
}
