package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/urfave/cli/v2"

	"p2psip/overlay"
)

func (p *program) overlayCreate() *cli.Command {
	return &cli.Command{
		Name: "create", Usage: "make an overlay: its root key and its overlay document", ArgsUsage: "DOMAIN",
		Description: "p2psip overlay create p2psip.example\n" +
			"p2psip overlay create --isolated --policy open village",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "dir", Usage: "`DIR` for root.key and overlay.json (default: ./DOMAIN)"},
			&cli.BoolFlag{Name: "isolated", Usage: "the overlay will never connect to the public SIP network; then a single word will do for DOMAIN"},
			&cli.StringFlag{Name: "policy", Value: string(overlay.PolicyCertified), Usage: "`POLICY` for joining: certified, with a credential from you; open, anybody, under a name made from their key (default: certified)"},
			&cli.StringSliceFlag{Name: "bootstrap", Usage: "`MULTIADDR` of a node through which others join"},
			&cli.IntFlag{Name: "copies", Value: overlay.DefaultBucketSize, Usage: "`N` nodes keep a copy of each record, Kademlia's k (default: 20)"},
			&cli.DurationFlag{Name: "record-lifetime", Value: overlay.DefaultRecordLifetime, Usage: "`TIME` for which a registered phone is believed to be there without news of it (default: 1h)"},
			jsonFlag(),
		},
		Action: func(c *cli.Context) error {
			args, err := exactArgs(c, "the overlay's domain name, such as p2psip.example")
			if err != nil {
				return err
			}
			policy := overlay.Policy(c.String("policy"))
			if policy != overlay.PolicyCertified && policy != overlay.PolicyOpen {
				return withHint(usagef("there is no policy %q", policy), "certified and open are the policies")
			}
			if err := checkBootstrap(c.StringSlice("bootstrap")); err != nil {
				return err
			}
			o := overlay.DocumentOptions{ID: args[0], Isolated: c.Bool("isolated"), Policy: policy, Bootstrap: c.StringSlice("bootstrap")}
			o.DHT = overlay.DHTParams{
				BucketSize: c.Int("copies"), RecordLifetime: c.Duration("record-lifetime"),
				Retention: max(overlay.DefaultRetention, c.Duration("record-lifetime")),
			}
			if err := o.DHT.Validate(); err != nil {
				return withHint(&usageError{err.Error()}, "such as --record-lifetime 30m, --copies 20")
			}
			a, err := overlay.NewAuthority(o, p.now())
			if err != nil {
				return err
			}
			dir := c.String("dir")
			if dir == "" {
				dir = string(a.Document().ID)
			}
			if _, err := os.Lstat(filepath.Join(dir, overlay.DocumentFile)); err == nil {
				return refuseOverwrite(dir)
			}
			if err := a.Save(dir); err != nil {
				if errors.Is(err, fs.ErrExist) {
					return refuseOverwrite(dir)
				}
				return fmt.Errorf("writing the overlay: %w", err)
			}
			if c.Bool("json") {
				return p.ui.JSON(documentJSON(a.Document(), dir))
			}
			p.ui.Say("The overlay %s is made. Its files are in %s:\n", a.Document().ID, dir)
			p.ui.Table(
				[]string{overlay.DocumentFile, "for everybody who wants to join"},
				[]string{overlay.RootKeyFile, "for nobody but you: whoever has it owns the overlay; keep a copy in a safe place"})
			p.ui.Say("\nFingerprint, for members to compare: %s\n", a.Document().Fingerprint())
			p.ui.Say("Next:")
			if policy == overlay.PolicyOpen {
				p.ui.Say("  p2psip node init --overlay %s", filepath.Join(dir, overlay.DocumentFile))
				p.ui.Say("  p2psip node")
				return nil
			}
			p.ui.Table([]string{fmt.Sprintf("p2psip overlay issue --dir %s --user alice --data alice-node", dir), "a credential for a node on this machine"},
				[]string{"p2psip node --data alice-node", "run it"})
			return nil
		},
	}
}

func refuseOverwrite(dir string) error {
	return withHint(fmt.Errorf("%s already holds an overlay; it is not overwritten", dir), "choose another directory with --dir")
}

// documentView is an overlay document for programs.
type documentView struct {
	ID             overlay.ID     `json:"id"`
	Dir            string         `json:"dir,omitempty"`
	Fingerprint    string         `json:"fingerprint"`
	Isolated       bool           `json:"isolated"`
	Policy         overlay.Policy `json:"policy"`
	Serial         uint64         `json:"serial"`
	Issued         time.Time      `json:"issued"`
	Expires        time.Time      `json:"expires"`
	BucketSize     int            `json:"bucket_size"`
	RecordLifetime float64        `json:"record_lifetime_s"`
	Retention      float64        `json:"retention_s"`
	Bootstrap      []string       `json:"bootstrap"`
}

func documentJSON(d *overlay.Document, dir string) documentView {
	return documentView{
		ID: d.ID, Dir: dir, Fingerprint: d.Fingerprint(), Isolated: d.Isolated, Policy: d.Policy, Serial: d.Serial,
		Issued: d.Issued.UTC(), Expires: d.Expires.UTC(), BucketSize: d.DHT.BucketSize,
		RecordLifetime: d.DHT.RecordLifetime.Seconds(), Retention: d.DHT.Retention.Seconds(), Bootstrap: bootstrapOf(d),
	}
}

// bootstrapOf lists the bootstrap addresses of a document.
func bootstrapOf(d *overlay.Document) []string {
	out := []string{}
	for _, ai := range d.Bootstrap {
		for _, a := range ai.Addrs {
			out = append(out, a.String()+"/p2p/"+ai.ID.String())
		}
	}
	return out
}
