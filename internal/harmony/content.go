package harmony

import (
	"slices"
	"strings"
)

// A Message is one Harmony message. An empty Name, Channel or Recipient is left
// out.
type Message struct {
	Role      string
	Name      string // of a user or assistant; of a tool it is written in place of the role
	Channel   string
	Recipient string // "all" is not written, but an assistant's message then still ends in <|call|>
	// ContentType follows the channel after a space; nil: nothing, not even the
	// space. A leading "<|constrain|>" becomes the special token.
	ContentType *string
	Content     []Content
}

// Content is a part of a message: TextContent, *SystemContent or *DeveloperContent.
// Parts are encoded one by one, with nothing between them.
type Content interface {
	// text is the content as it is written. functions says whether the conversation
	// declares functions.
	text(functions bool) (string, error)
}

// TextContent is written as it is.
type TextContent string

func (t TextContent) text(bool) (string, error) { return string(t), nil }

// SystemContent is what the system message says. A nil field leaves out its line.
type SystemContent struct {
	Identity        *string
	KnowledgeCutoff *string
	Date            *string
	Effort          string               // low, medium or high; "": no line
	Tools           map[string]Namespace // built-in tools
	Channels        []string             // none: no line
	ChannelRequired bool
}

func (c *SystemContent) text(functions bool) (string, error) {
	var top, sections []string
	if c.Identity != nil {
		top = append(top, *c.Identity)
	}
	if c.KnowledgeCutoff != nil {
		top = append(top, "Knowledge cutoff: "+*c.KnowledgeCutoff)
	}
	if c.Date != nil {
		top = append(top, "Current date: "+*c.Date)
	}
	if top != nil {
		sections = append(sections, strings.Join(top, "\n"))
	}
	if c.Effort != "" {
		sections = append(sections, "Reasoning: "+c.Effort)
	}
	if len(c.Tools) > 0 {
		tools, err := toolsSection(c.Tools)
		if err != nil {
			return "", err
		}
		sections = append(sections, tools)
	}
	if len(c.Channels) > 0 {
		line := "# Valid channels: " + strings.Join(c.Channels, ", ") + "."
		if c.ChannelRequired {
			line += " Channel must be included for every message."
		}
		if functions {
			line += "\nCalls to these tools must go to the commentary channel: 'functions'."
		}
		sections = append(sections, line)
	}
	return strings.Join(sections, "\n\n"), nil
}

// DeveloperContent is what a developer message says.
type DeveloperContent struct {
	Instructions *string
	Tools        map[string]Namespace
	Format       *ResponseFormat // of type json_schema; nil: none
}

func (c *DeveloperContent) text(bool) (string, error) {
	var sections []string
	if c.Instructions != nil {
		sections = append(sections, "# Instructions", *c.Instructions)
	}
	if len(c.Tools) > 0 {
		tools, err := toolsSection(c.Tools)
		if err != nil {
			return "", err
		}
		sections = append(sections, tools)
	}
	if f := c.Format; f != nil {
		schema, err := parseValue(f.Schema)
		if err != nil {
			return "", &formatError{err}
		}
		text := string(schema.appendJSON(nil))
		if f.Description != "" {
			text = "// " + f.Description + "\n" + text
		}
		sections = append(sections, "# Response Formats", "## "+f.Name, text)
	}
	return strings.Join(sections, "\n\n"), nil
}

// declaresFunctions reports whether a developer message has a function in the
// namespace with the key "functions".
func declaresFunctions(messages []Message) bool {
	return slices.ContainsFunc(messages, func(m Message) bool {
		return slices.ContainsFunc(m.Content, func(c Content) bool {
			d, ok := c.(*DeveloperContent)
			if !ok {
				return false
			}
			n := d.Tools[functionsKey]
			return n.functions()
		})
	})
}

// A formatError says that the schema of a response format cannot be rendered.
type formatError struct{ err error }

func (e *formatError) Error() string { return "schema of the response format: " + e.err.Error() }

func (e *formatError) Unwrap() error { return e.err }
