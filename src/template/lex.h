/* The scanner: text and actions to tokens, with byte offsets and line numbers. Private to the room. */
#pragma once
#include "template/value.h"

enum token_type {
	TOKEN_ERROR, /* text: the message */
	TOKEN_BOOL,
	TOKEN_CHAR, /* a printable ASCII character that means nothing by itself, as ',' */
	TOKEN_CHAR_CONSTANT,
	TOKEN_COMPLEX,
	TOKEN_ASSIGN,
	TOKEN_DECLARE,
	TOKEN_EOF,
	TOKEN_FIELD,
	TOKEN_IDENTIFIER,
	TOKEN_LEFT_DELIM,
	TOKEN_LEFT_PAREN,
	TOKEN_NUMBER,
	TOKEN_PIPE,
	TOKEN_RAW_STRING,
	TOKEN_RIGHT_DELIM,
	TOKEN_RIGHT_PAREN,
	TOKEN_SPACE,
	TOKEN_STRING,
	TOKEN_TEXT,
	TOKEN_VARIABLE,
	TOKEN_KEYWORD, /* only a mark: what follows are keywords, printed as <if> in errors */
	TOKEN_BLOCK,
	TOKEN_BREAK,
	TOKEN_CONTINUE,
	TOKEN_DOT,
	TOKEN_DEFINE,
	TOKEN_ELSE,
	TOKEN_END,
	TOKEN_IF,
	TOKEN_NIL,
	TOKEN_RANGE,
	TOKEN_TEMPLATE,
	TOKEN_WITH,
	TOKEN_TYPE_MAX,
};

struct token {
	enum token_type type;
	size_t position; /* byte offset in the text */
	unsigned line;	 /* from 1 */
	struct slice text;
};

enum lexer_state { LEXER_TEXT, LEXER_LEFT_DELIM, LEXER_ACTION, LEXER_RIGHT_DELIM, LEXER_DONE };

struct lexer {
	struct arena *arena; /* error messages */
	struct slice input;
	size_t position, start;
	size_t counted; /* newlines before this offset are in `line` */
	unsigned line;
	int parens;
	enum lexer_state state;
	bool break_is_function, continue_is_function;
};

void lexer_init(struct lexer *lexer, struct arena *arena, struct slice input);
/* After TOKEN_EOF or TOKEN_ERROR: TOKEN_EOF for ever. */
struct token lexer_next(struct lexer *lexer);
