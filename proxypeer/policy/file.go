package policy

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/pelletier/go-toml/v2"
	"github.com/pelletier/go-toml/v2/unstable"

	"p2psip/interwork/locate"
)

// Bounds of a file.
const (
	maxFile    = 1 << 20
	maxEntries = 4096 // of domains and of routes
	maxNames   = 256  // of one entry, in each list
)

// Default ports: of a next hop (RFC 3261), and of a static route, which is TLS unless said otherwise.
const (
	defaultPort = 5060
	tlsPort     = 5061
)

// document is the file as it is written.
type document struct {
	Default defaults `toml:"default"`
	Domain  []entry  `toml:"domain"`
	Route   []route  `toml:"route"`
}

// common can stand in an entry and in [default]; what an entry does not say is as there.
type common struct {
	Outbound      *bool       `toml:"outbound"`
	Inbound       *bool       `toml:"inbound"`
	Transports    []transport `toml:"transports"`
	RequireTLS    *bool       `toml:"require_tls"`
	FederationSRV *bool       `toml:"federation_srv"`
	Hosted        *bool       `toml:"hosted"`
	CheckSource   *bool       `toml:"check_source"`
}

type defaults struct {
	common
	RoutingDomain domainName `toml:"routing_domain"`
}

type entry struct {
	common
	Names       []pattern    `toml:"names"`
	Description string       `toml:"description"`
	Aliases     []domainName `toml:"aliases"`
	Enabled     *bool        `toml:"enabled"`
	NextHop     *hop         `toml:"next_hop"`
	Port        int          `toml:"port"`
	Subjects    []subject    `toml:"subjects"`
	Trusted     []network    `toml:"trusted"`

	line int
}

type route struct {
	To        *destination `toml:"to"`
	NextHop   *hop         `toml:"next_hop"`
	Port      int          `toml:"port"`
	Transport transport    `toml:"transport"`
	Subjects  []subject    `toml:"subjects"`

	line int
}

// FileError is what is wrong with a file, at a line and a column, which count from 1; 0 is none in particular.
type FileError struct {
	Line, Column int
	Text         string
}

// ErrBadFile is what every FileError is.
var ErrBadFile = errors.New("bad federation policy")

// Is says that it is one.
func (e *FileError) Is(t error) bool { return t == ErrBadFile }

func (e *FileError) Error() string {
	switch {
	case e.Line == 0:
		return e.Text
	case e.Column == 0:
		return fmt.Sprintf("line %d: %s", e.Line, e.Text)
	}
	return fmt.Sprintf("line %d, column %d: %s", e.Line, e.Column, e.Text)
}

// Load reads the file at path.
func Load(path string) (*Policy, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, err
	}
	p, err := Parse(b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return p, nil
}

// Parse reads a policy. It is read whole or not at all: an unknown key, a value of the wrong kind or two entries for one
// domain refuse it, with a *FileError.
func Parse(b []byte) (*Policy, error) {
	if len(b) > maxFile {
		return nil, &FileError{Text: fmt.Sprintf("larger than %d octets", maxFile)}
	}
	var d document
	dec := toml.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	lines, twice := headers(b)
	if err := dec.Decode(&d); err != nil {
		var e *FileError
		if err = fileError(err); twice != nil && errors.As(err, &e) && e.Line == 0 {
			return nil, twice // the parser does not say where
		}
		return nil, err
	}
	if len(lines["domain"]) == len(d.Domain) {
		for i, l := range lines["domain"] {
			d.Domain[i].line = l
		}
	}
	if len(lines["route"]) == len(d.Route) {
		for i, l := range lines["route"] {
			d.Route[i].line = l
		}
	}
	return compile(&d)
}

// fileError words what the parser says.
func fileError(err error) error {
	var strict *toml.StrictMissingError
	if errors.As(err, &strict) && len(strict.Errors) > 0 {
		e := &strict.Errors[0]
		line, column := e.Position()
		key := e.Key()
		text := fmt.Sprintf("there is no key %q", strings.Join(key, "."))
		if near := nearest(key); near != "" {
			text += fmt.Sprintf("; did you mean %q?", near)
		}
		return &FileError{line, column, text}
	}
	var e *toml.DecodeError
	if errors.As(err, &e) {
		line, column := e.Position()
		return &FileError{line, column, strings.TrimPrefix(e.Error(), "toml: ")}
	}
	return &FileError{Text: strings.TrimPrefix(err.Error(), "toml: ")}
}

// keys are those that may stand in each table; in "" those of the file.
var keys = map[string][]string{
	"":        {"default", "domain", "route"},
	"default": append(slices.Clone(commonKeys), "routing_domain"),
	"domain":  append(slices.Clone(commonKeys), "names", "description", "aliases", "enabled", "next_hop", "port", "subjects", "trusted"),
	"route":   {"to", "next_hop", "port", "transport", "subjects"},
}

var commonKeys = []string{"outbound", "inbound", "transports", "require_tls", "federation_srv", "hosted", "check_source"}

// nearest gives the key that somebody may have meant: one that differs in at most a third of its letters.
func nearest(key []string) string {
	table, word := "", key[0]
	if len(key) > 1 {
		table, word = key[0], key[len(key)-1]
	}
	best, at := len(word)/3+2, ""
	for _, k := range keys[table] {
		if d := distance(strings.ToLower(word), k); d < best {
			best, at = d, k
		}
	}
	return at
}

// distance is the number of letters to be changed, put in or left out to get from a to b.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diag := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			diag, row[j+1] = row[j+1], min(diag+cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}

// headers gives the lines of the [[headers]], by name, and the first key that stands in one table twice.
func headers(b []byte) (lines map[string][]int, twice error) {
	lines = make(map[string][]int)
	seen := make(map[string]bool) // keys of the table that is being read
	var p unstable.Parser
	p.Reset(b)
	for p.NextExpression() {
		e := p.Expression()
		var path []string
		var at unstable.Position
		for key := e.Key(); key.Next(); {
			n := key.Node()
			if path == nil {
				at = p.Shape(n.Raw).Start
			}
			path = append(path, string(n.Data))
		}
		switch e.Kind {
		case unstable.ArrayTable:
			lines[path[0]] = append(lines[path[0]], at.Line)
			clear(seen)
		case unstable.Table:
			clear(seen)
		case unstable.KeyValue:
			name := strings.Join(path, ".")
			if seen[name] && twice == nil {
				twice = &FileError{at.Line, at.Column, fmt.Sprintf("%q stands here a second time", name)}
			}
			seen[name] = true
		}
	}
	return lines, twice
}

// compile checks what no single value can say by itself.
func compile(d *document) (*Policy, error) {
	p := &Policy{aliases: make(map[string]*entry), routing: string(d.Default.RoutingDomain)}
	if len(d.Domain) > maxEntries || len(d.Route) > maxEntries {
		return nil, &FileError{Text: fmt.Sprintf("more than %d entries", maxEntries)}
	}
	p.fallback = &entry{common: d.Default.common}
	p.fallback.settle(&common{Outbound: new(true), Inbound: new(true), RequireTLS: new(false), FederationSRV: new(false), Hosted: new(false), CheckSource: new(false)})
	if err := p.fallback.check(p); err != nil {
		return nil, err
	}
	taken := make(map[string]int) // by pattern
	take := func(name string, line int) error {
		if at, ok := taken[name]; ok {
			return &FileError{line, 0, fmt.Sprintf("%s has an entry already, in line %d", name, at)}
		}
		taken[name] = line
		return nil
	}
	for i := range d.Domain {
		e := &d.Domain[i]
		// Who is listed is federated with, whatever holds for others; the rest is as in [default].
		e.settle(&common{Outbound: new(true), Inbound: new(true)})
		e.settle(&p.fallback.common)
		if err := e.check(p); err != nil {
			return nil, err
		}
		for _, n := range e.Names {
			name := n.domain()
			if n.below {
				name = "*." + name
			}
			if err := take(name, e.line); err != nil {
				return nil, err
			}
		}
		for _, a := range e.Aliases {
			if err := take(string(a), e.line); err != nil {
				return nil, err
			}
			p.aliases[string(a)] = e
		}
		p.entries = append(p.entries, e)
	}
	clear(taken)
	for i := range d.Route {
		r := &d.Route[i]
		switch {
		case r.To == nil:
			return nil, &FileError{r.line, 0, `a route needs "to", the domain it leads to`}
		case r.NextHop == nil:
			return nil, &FileError{r.line, 0, `a route needs "next_hop", the host it goes by`}
		case r.Port < 0 || r.Port > 65535:
			return nil, &FileError{r.line, 0, fmt.Sprintf("%d is no port", r.Port)}
		case r.NextHop.port != 0 && r.Port != 0:
			return nil, &FileError{r.line, 0, `a port stands in "next_hop" and in "port"`}
		}
		if at, ok := taken[r.To.domain()+fmt.Sprint(r.To.exact, r.To.below)]; ok {
			return nil, &FileError{r.line, 0, fmt.Sprintf("there is a route to %s already, in line %d", r.To.text, at)}
		}
		taken[r.To.domain()+fmt.Sprint(r.To.exact, r.To.below)] = r.line
		if r.Transport == "" {
			r.Transport = locate.TLS
		}
		if r.NextHop.port == 0 {
			r.NextHop.port = r.Port
		}
		if r.NextHop.port == 0 {
			r.NextHop.port = defaultPort
			if r.Transport == locate.TLS {
				r.NextHop.port = tlsPort
			}
		}
		p.routes = append(p.routes, r)
	}
	return p, nil
}

// settle fills in what is not said.
func (c *common) settle(from *common) {
	for _, v := range []struct {
		to   **bool
		from *bool
	}{
		{&c.Outbound, from.Outbound}, {&c.Inbound, from.Inbound}, {&c.RequireTLS, from.RequireTLS},
		{&c.FederationSRV, from.FederationSRV}, {&c.Hosted, from.Hosted}, {&c.CheckSource, from.CheckSource},
	} {
		if *v.to == nil {
			*v.to = v.from
		}
	}
	if c.Transports == nil {
		c.Transports = from.Transports
	}
}

// check looks at an entry by itself.
func (e *entry) check(p *Policy) error {
	bad := func(format string, a ...any) error { return &FileError{e.line, 0, fmt.Sprintf(format, a...)} }
	switch {
	case e != p.fallback && len(e.Names) == 0:
		return bad(`a domain needs "names"`)
	case max(len(e.Names), len(e.Aliases), len(e.Subjects), len(e.Trusted)) > maxNames:
		return bad("a list has more than %d members", maxNames)
	case len(e.Aliases) > 0 && e.Names[0].below:
		return bad("aliases stand for the first of names, which is %s and not one domain", e.Names[0].text)
	case e.Port < 0 || e.Port > 65535:
		return bad("%d is no port", e.Port)
	case e.NextHop != nil && e.NextHop.port != 0 && e.Port != 0:
		return bad(`a port stands in "next_hop" and in "port"`)
	case *e.Hosted && p.routing == "":
		return bad(`"hosted" needs a "routing_domain" in [default]`)
	case *e.RequireTLS && e.Transports != nil && !slices.Contains(e.Transports, locate.TLS):
		return bad(`"require_tls" stands beside "transports" without TLS`)
	case e.Transports != nil && len(e.Transports) == 0:
		return bad(`"transports" is empty; to forbid calls there, write outbound = false`)
	}
	return nil
}

// label names an entry for people.
func (e *entry) label() string {
	if len(e.Names) == 0 {
		return "[default]"
	}
	s := "domain " + e.Names[0].text
	if e.line > 0 {
		s += fmt.Sprintf(" (line %d)", e.line)
	}
	return s
}

func (r *route) label() string {
	s := "static route to " + r.To.text
	if r.line > 0 {
		s += fmt.Sprintf(" (line %d)", r.line)
	}
	return s
}
