package harmony

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

// Content is a part of a message: Text, *SystemContent or *DeveloperContent.
type Content interface {
	text() (string, error)
}

// Text is content that is written as it is.
type Text string

func (t Text) text() (string, error) { return string(t), nil }
