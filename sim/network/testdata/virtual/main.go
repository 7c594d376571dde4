// Virtual spends two hours twice, as a binary that is no test.
package main

import (
	"fmt"
	"os"
	"time"

	"p2psip/sim/network"
)

func main() {
	for range 2 {
		err := network.RunVirtual(func() {
			start := time.Now()
			time.Sleep(time.Hour)
			fmt.Println(time.Since(start))
		})
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
}
